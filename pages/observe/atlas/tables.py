"""The numbers of the Atlas page as tables, and as hover texts of their cells."""

import html
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from model.atlas.lift import REASONS

_UNSHOWN = ("sources", "few", "error", "p", "serves")


def lifts(at: xr.Dataset) -> pd.DataFrame:
    """Return a table with a row per cell, in the order of a map: lift, interval, q, verdict, shares and documents.

    Args:
        at: a part of the result of `model.atlas.lift.specialists`.
    """
    frame = at.drop_vars([name for name in _UNSHOWN if name in at]).to_dataframe().reset_index()
    pairs = zip(frame["moe_layer"], frame["expert"], strict=True)
    return pd.DataFrame(
        {
            "expert": [f"L{layer}E{expert}" for layer, expert in pairs],
            "label": frame["label"],
            "verdict": [REASONS[index] for index in frame["reason"].to_numpy(int)],
            "lift (log2)": frame["lift"],
            "low (95 %)": frame["low"],
            "high (95 %)": frame["high"],
            "q": frame["q"],
            "without one source": frame["weakest"],
            "share": frame["share"],
            "share elsewhere": frame["elsewhere"],
            "documents": frame["documents"],
        }
    )


def hover(table: pd.DataFrame, kind: str) -> list[str]:
    """Return the hover text of each row of `lifts`."""
    return [_cell(row, kind) for row in table.to_dict("records")]


def _cell(row: dict[Any, Any], kind: str) -> str:
    label = html.escape(str(row["label"]))
    known = f"n = {row['documents']:,} documents of this {kind}"
    if np.isnan(row["q"]):
        return f"{row['expert']}, {label}<br>{row['verdict']}; {known}"
    return f"{row['expert']}, {label}<br>{factor(row)}<br>{row['verdict']}; q = {row['q']:.2g}; {known} (derived)"


def factor(row: dict[Any, Any]) -> str:
    """Return the lift of a row of `lifts` as a factor, with its interval."""
    times, low, high = (2 ** row[name] for name in ("lift (log2)", "low (95 %)", "high (95 %)"))
    return f"{times:.3g} × as often as elsewhere (95 %: {low:.3g} to {high:.3g})"
