"""Tables of attention: what one token sees, and a row per head."""

import pandas as pd
import xarray as xr

from model.trace.trace import Trace
from pages.common import controls
from viz.tokens import token_labels

NAMES = {"entropy": "entropy (share of max)", "first_token_share": "share on first token",
         "mean_distance": "mean distance (tokens)", "attention_layer": "layer"}  # fmt: skip


def labels(trace: Trace) -> list[str]:
    """The tokens as axes name them."""
    return token_labels(trace.tokens, trace.text)


def row_table(trace: Trace, token: int, **values: xr.DataArray) -> pd.DataFrame:
    """What one token sees: a row per key, from arrays [key]."""
    names = controls.token_names(trace)[: token + 1]
    numbers = {name: row.values[: token + 1] for name, row in values.items()}
    return pd.DataFrame({"key": range(token + 1), "text": names} | numbers)


def head_table(summary: xr.Dataset, ranked: list[int]) -> pd.DataFrame:
    """A row per head, in the order shown: the means over the tokens that count."""
    means = summary.sel(statistic="mean", head=ranked)
    return pd.DataFrame({"head": ranked} | {NAMES[str(name)]: part.values for name, part in means.data_vars.items()})
