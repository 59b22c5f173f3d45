"""Tables of the statistics of heads."""

import pandas as pd
import xarray as xr

COLUMNS = {
    "entropy": "entropy (share of max)",
    "first_token_share": "share on first token",
    "mean_distance": "mean distance (tokens)",
    "attention_layer": "layer",
}


def by_head(summary: xr.Dataset, order: list[int]) -> pd.DataFrame:
    """Return a table with a row per head, in `order`: means over the tokens that count."""
    means = summary.sel(statistic="mean", head=order)
    columns = {COLUMNS[str(name)]: values.values for name, values in means.data_vars.items()}
    return pd.DataFrame({"head": order} | columns)


def by_layer_and_head(means: xr.Dataset) -> pd.DataFrame:
    """Return a table with a row per layer and head from `means`, each [attention_layer, head]."""
    return means.drop_vars("statistic").to_dataframe().reset_index().rename(columns=COLUMNS)
