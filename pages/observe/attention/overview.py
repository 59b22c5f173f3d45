"""The overview above the tabs, beside the large map: all heads of the layer, and the keys of the chosen token."""

import numpy as np
import streamlit as st
import xarray as xr

from model.trace import attention
from model.trace.derived import derived
from model.trace.trace import Trace
from pages.common import controls, heads, session, tables, text
from pages.common.runs import Run
from pages.observe.attention import tables as head_tables
from pages.observe.attention import values
from pages.observe.attention.choices import SORTS, Selection
from viz import heads as figures
from viz.thumbnails import head_thumbnails

ROUNDED = 0.005  # of a row of weights that sums to 1
ELSEWHERE = (
    "goes to no single token: to a sink, which takes attention and gives nothing, or to entries that stand for several "
    "tokens"
)


def without_attention(trace: Trace) -> str | None:
    """Return a sentence on the layers that have no attention weights; None if every layer has them, or may have."""
    if trace.router is None:
        return None
    has = heads.layers(trace)
    lacking = [f"L{layer}" for layer in range(trace.shape.num_layers) if layer not in has]
    if not lacking:
        return None
    return (
        f"{', '.join(lacking)} {'has' if len(lacking) == 1 else 'have'} no attention weights: linear attention and "
        "state-space layers have none."
    )


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
    name = text.as_code(text.token(trace, token))
    if np.isnan(row).any():
        return (
            f"In head {head} of L{layer}, it is not known which tokens the keys of token {token} {name} stand for, so "
            "no attention is shown for it."
        )
    key, elsewhere = int(row.argmax()), attention.share_elsewhere(xr.DataArray(row))
    other = text.as_code(text.token(trace, key))
    most = f"token {key} {other}" if key != token else "itself"
    source = heads.origin(trace, layer, head)
    rest = f" {elsewhere:.1%} {ELSEWHERE}." if elsewhere > ROUNDED else ""
    answer = f"In head {head} of L{layer}, token {token} {name} looks most at **{most}: {row[key]:.1%}** ({source})."
    return answer + rest


def thumbnails(run: Run, chosen: Selection, ranked: list[int], summary: xr.Dataset, sort: str) -> None:
    """Draw small maps of all heads of the layer."""
    measure, small = SORTS[sort], values.overview(run, chosen.layer).small
    means = summary[measure].sel(statistic="mean", head=ranked).values.tolist() if measure else None
    look, trace = session.theme(), heads.trace_of(run)
    key = ("heads", chosen.layer, chosen.head, *ranked, *(means or ()), look)
    figure = derived(trace, key, lambda: head_thumbnails(small, look, ranked, chosen.head, means))
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
    look = session.theme()
    key = ("largest weights", chosen.layer, chosen.head, token, look)
    figure = derived(trace, key, lambda: figures.largest_weights(row, text.token_labels(trace), look, source))
    elsewhere = attention.share_elsewhere(row)
    total = "1" if not elsewhere > ROUNDED else f"{1 - elsewhere:.3g}; the rest {ELSEWHERE}"
    how_to_read = f"The tokens that the chosen token looks at most in this head. All bars add up to {total}."
    table = tables.keys_of(trace, token, attention=row)
    controls.chart(figure, "attention-row", table, how_to_read, layer=chosen.layer)
