"""Tables of curves over training steps."""

from collections.abc import Mapping

import pandas as pd
import xarray as xr

from pages.common.tables import matrix


def by_step(curves: Mapping[str, xr.DataArray]) -> pd.DataFrame:
    """Return a table of curves, each [step]: a column per curve, a row per step, NaN where a curve lacks the step."""
    columns = [values.rename(name).to_series() for name, values in curves.items()]
    return pd.concat(columns, axis=1).rename_axis("step").reset_index()


def by_expert(values: xr.DataArray) -> pd.DataFrame:
    """Return a table of values [step, expert], with a row per step and a column per expert."""
    return matrix(values)
