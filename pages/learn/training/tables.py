"""Tables of curves over training steps."""

from collections.abc import Mapping

import pandas as pd
import xarray as xr

from pages.common.tables import matrix


def by_step(curves: Mapping[str, xr.DataArray]) -> pd.DataFrame:
    """Return curves, each [step], as columns, a row per step; empty cells where a curve lacks a step."""
    columns = [values.rename(name).to_series() for name, values in curves.items()]
    return pd.concat(columns, axis=1).rename_axis("step").reset_index()


def by_expert(values: xr.DataArray) -> pd.DataFrame:
    """Return values, [step, expert], with a row per step and a column per expert."""
    return matrix(values)
