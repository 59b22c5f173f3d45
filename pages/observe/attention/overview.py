"""The overview above the tabs, beside the large map: all heads of the layer, and the keys of the chosen token."""

import numpy as np
import streamlit as st
import xarray as xr

from pages.common import controls, heads, session, tables, text
from pages.common.runs import Run
from pages.observe.attention import tables as head_tables
from pages.observe.attention import values
from pages.observe.attention.choices import SORTS, Selection
from viz import heads as figures
from viz.thumbnails import head_thumbnails


def order(summary: xr.Dataset, sort: str) -> list[int]:
    """Return head numbers sorted by index, least entropy, largest share on the first token, or largest distance."""
    measure, numbers = SORTS[sort], summary["head"].values
    if measure is None:
        return numbers.tolist()
    means = summary[measure].sel(statistic="mean").values
    return numbers[np.argsort(means if measure == "entropy" else -means, kind="stable")].tolist()


def verdict(run: Run, layer: int, head: int, token: int) -> str:
    """Return a sentence on the token that the chosen token looks at most in this head, with its share."""
    trace, row = heads.trace_of(run), values.row(run, layer, head, token).values
    key = int(row.argmax())
    name, other = (text.as_code(text.token(trace, index)) for index in (token, key))
    most = f"token {key} {other}" if key != token else "itself"
    source = heads.origin(trace, layer, head)
    return f"In head {head} of L{layer}, token {token} {name} looks most at **{most}: {row[key]:.1%}** ({source})."


def thumbnails(run: Run, chosen: Selection, ranked: list[int], summary: xr.Dataset, sort: str) -> None:
    """Draw small maps of all heads of the layer."""
    measure, small = SORTS[sort], values.overview(run, chosen.layer).small
    means = summary[measure].sel(statistic="mean", head=ranked).values.tolist() if measure else None
    figure = head_thumbnails(small, session.theme(), ranked, chosen.head, means)
    how_to_read = (
        "Every head of the layer. Each map has its own scale, so it shows where a head looks, not how strongly. "
        "Click a map to enlarge it."
    )
    table = head_tables.by_head(summary, ranked)
    controls.chart(figure, "attention-heads", table, how_to_read, chooses=("head",), layer=chosen.layer)


def token_keys(run: Run, chosen: Selection) -> None:
    """Draw the keys that the chosen token looks at most."""
    trace, token = heads.trace_of(run), chosen.token
    row = values.row(run, chosen.layer, chosen.head, token)
    source = heads.origin(trace, chosen.layer, chosen.head)
    st.caption(f"Token {token}: {source}, n = {token + 1:,} tokens")  # in a narrow chart it would lie below the toolbar
    figure = figures.largest_weights(row, text.token_labels(trace), session.theme(), source)
    how_to_read = "The tokens that the chosen token looks at most in this head. All bars add up to 1."
    table = tables.keys_of(trace, token, attention=row)
    controls.chart(figure, "attention-row", table, how_to_read, layer=chosen.layer)
