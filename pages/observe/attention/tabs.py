"""The tabs of the Attention page."""

from collections.abc import Callable

import streamlit as st
import xarray as xr

from model.run.request import RequestError
from model.trace import attention, cells
from model.trace.derived import derived
from pages.common import controls, guards, heads, session, tables, text
from pages.common.runs import Run
from pages.observe.attention import head_map, parts, values
from pages.observe.attention import tables as head_tables
from pages.observe.attention.choices import Selection
from viz import attention as maps
from viz import heads as figures


def in_numbers(run: Run, chosen: Selection, ranked: list[int], counted: xr.DataArray) -> None:
    """Draw entropy, share on the first token and distance of the layer's heads."""
    queries = attention.choosing_queries(counted)
    if not len(queries):
        st.info(
            "None of the tokens under “Tokens that count” has an earlier token to look at; the first token sees only "
            "itself."
        )
        return
    summary = values.summary(run, chosen.layer, queries)
    st.caption(
        f"{attention.sinks(summary)} of {len(ranked)} heads give the first token more than 0.3 of their attention. "
        f"Derived; n = {len(queries):,} tokens that look."
    )
    look = session.theme()
    key = ("head panels", chosen.layer, chosen.head, *ranked, queries.tobytes(), look)
    figure = derived(heads.trace_of(run), key, lambda: figures.head_panels(summary, look, ranked, chosen.head))
    how_to_read = (
        "A dot is a head's mean over the tokens that look; its line covers the middle 80 % of them. Entropy 0: the "
        "head looks at one token; 1: at all tokens equally. Many heads look at the first token when no other token "
        "matters to them."
    )
    table = head_tables.by_head(summary, ranked)
    controls.chart(figure, "attention-numbers", table, how_to_read, chooses=("head",), layer=chosen.layer)


def all_layers(run: Run, chosen: Selection, ranked: list[int], counted: xr.DataArray) -> None:
    """Draw entropy, share on the first token and distance of all heads of every recorded layer.

    Raises:
        RequestError: attention was not recorded.
    """
    if not heads.trace_of(run).has("attention"):
        raise RequestError("Attention was not recorded with this run, so only one layer is computed at a time.")
    queries = attention.choosing_queries(counted)
    means = attention.over_queries(values.all_figures(run), queries).sel(statistic="mean")
    st.caption(f"Derived, recorded layers; n = {len(queries):,} tokens that look.")
    figure = figures.layer_maps(means, session.theme(), (chosen.layer, chosen.head))
    how_to_read = (
        "A row per layer, a column per head. A stronger colour is a larger value: entropy and share from 0 to 1, "
        "distance from 0 to the largest mean."
    )
    table = head_tables.by_layer_and_head(means)
    controls.chart(figure, "attention-layers", table, how_to_read, chooses=("layer", "head"))


def rollout(run: Run, chosen: Selection, ranked: list[int], counted: xr.DataArray) -> None:
    """Draw attention rollout: the attention through all layers up to the chosen layer."""
    trace, reached = heads.trace_of(run), values.rollout(run, chosen.layer)
    title = f"rollout, layers 0 to {chosen.layer}: derived, n = {trace.num_tokens:,} tokens"
    shown, labels = cells.cells(reached, chosen.window)[chosen.statistic], text.token_labels(trace)
    figure = maps.rollout_map(shown, session.theme(), labels, token=chosen.token, title=title, of_cell=chosen.statistic)
    has_gaps = trace.router is not None and len(heads.layers(trace)) < trace.shape.num_layers
    st.caption(
        "Rollout estimates how much of one token reaches another through all layers up to this one. For each layer it "
        "takes a matrix: half is the mean attention of the heads, and half stands for the residual stream, which "
        "keeps each token in its place. The product of these matrices is the rollout. It ignores the values and the "
        "feed-forward layers" + (", and the layers without attention weights." if has_gaps else ".")
    )
    how_to_read = (
        "A cell is how much of the column's token reaches the row's token through the layers. The table shows token "
        f"{chosen.token}."
    )
    table = tables.keys_of(trace, chosen.token, rollout=reached.isel(query=chosen.token))
    head_map.show(figure, "attention-rollout", chosen, table, how_to_read)


def content_and_position(run: Run, chosen: Selection, ranked: list[int], counted: xr.DataArray) -> None:
    """Draw the two parts of a head's score, and the size of the KV cache."""
    with guards.refusal_shown():
        parts.maps_of_parts(run, chosen)
        parts.by_distance(run, chosen)
    parts.cache(heads.trace_of(run))


TABS: dict[str, Callable[[Run, Selection, list[int], xr.DataArray], None]] = {
    "Heads in numbers": in_numbers,
    "All layers": all_layers,
    "Rollout": rollout,
    "Content and position": content_and_position,
}
