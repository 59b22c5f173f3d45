"""The overview above the tabs: the answer for one token, the map of the layer, and the keys of the token."""

import streamlit as st
import xarray as xr

from model.run.request import RequestError
from model.trace import sparse
from model.trace.attention import mean_of_heads
from model.trace.trace import Trace
from pages.common import controls, guards, heads, session, tables, text
from pages.common.runs import Run
from pages.observe.sparse_attention import example
from viz import sparse as figures

DENSE = "attention without selection"


def require(shown: Run | None) -> Run:
    """Return the run on show if its model has an indexer that can be shown, else the recorded example.

    If the dense attention of this run cannot be computed, show why and end the page.
    """
    trace = guards.require(shown.trace if shown else None)
    assert shown is not None
    if not trace.config.get("index_topk") or (trace.router and not trace.has("indexer_score")):
        shown = _example_instead(shown)
    guards.require(heads.trace_of(shown), "indexer_score", "layer_input")
    try:
        with st.spinner("Loading the model"):
            heads.engine_for(heads.trace_of(shown))
    except RequestError as error:
        guards.stop_with(text.plain(error))
    return shown


def _example_instead(shown: Run) -> Run:
    """Show that the model on show has no indexer, with a button that runs its text; return the recorded example."""
    trace = heads.trace_of(shown)
    name = text.plain(trace.model.get("name", "This model"), 80)
    reason = (
        f"No indexer of {name} is recorded."
        if trace.router
        else f"{name} reads every earlier token: it has no indexer."
    )
    recorded = example.run()
    if recorded is None or example.sparse_model() is None:
        guards.stop_with(f"{reason} Choose a V3.2 model in the sidebar, and generate.")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"{reason} Below is a recorded run of another model.", width="content")
        example.run_button(shown)
    return recorded


def scores(trace: Trace, layer: int) -> xr.DataArray:
    """Return the indexer's scores of a layer, [query, key]."""
    return trace.data["indexer_score"].sel(indexer_layer=layer, drop=True)


def verdict(run: Run, layer: int, token: int, kept: xr.DataArray) -> None:
    """Show how many keys the token keeps, and the share of its dense attention on them."""
    visible = token + 1
    num_kept = sparse.num_kept(kept.isel(query=[token]))
    if num_kept == visible:
        st.markdown(f"Token {token} sees {visible} tokens, itself included, and keeps them all. {_first(kept)}")
        return
    dense = heads.dense(run, layer)
    held, best = sparse.held_and_best(dense, kept, token)
    st.markdown(
        f"Token {token} keeps **{num_kept} of {visible}** keys. They hold **{held:.1%}** of the attention that the "
        f"token would give if it read every key (mean of {dense.sizes['head']} heads); the best {num_kept} keys would "
        f"hold {best:.1%}.",
        help="A key is a token that this token may read: an earlier one, or itself. Attention without a selection is "
        "computed from the layer's recorded input, as if the token read every key.",
    )


def _first(kept: xr.DataArray) -> str:
    queries = sparse.choosing(kept)
    return f"Token {queries[0]} is the first that leaves a key out." if len(queries) else "So does every other token."


def selection(run: Run, layer: int, token: int, kept: xr.DataArray) -> None:
    """Draw the map of all queries and keys of the layer."""
    trace, weights = heads.trace_of(run), mean_of_heads(heads.dense(run, layer))
    title = f"blue kept, orange left out, n = {trace.num_tokens} tokens"
    figure = figures.selection_map(weights, kept, session.theme(), token, title)
    how_to_read = (
        "A row is a query (the token that reads), a column a key (the token that is read). Blue keys were kept, orange "
        "ones left out; a stronger colour is more attention without a selection. Click a row to choose its token. "
        "Derived, mean of the layer's heads."
    )
    table = tables.keys_of(trace, token, **{DENSE: weights.isel(query=token), "kept": kept.isel(query=token)})
    controls.chart(figure, "sparse-map", table, how_to_read, chooses=("token",), layer=layer)


def keys(run: Run, layer: int, token: int, kept: xr.DataArray) -> None:
    """Draw one query's keys: their scores by the indexer, and their dense attention weights."""
    trace, visible = heads.trace_of(run), slice(0, token + 1)
    weights = mean_of_heads(heads.dense(run, layer)).isel(query=token, key=visible)
    row, mask = scores(trace, layer).isel(query=token, key=visible), kept.isel(query=token, key=visible)
    figure = figures.query_panels(row, mask, weights, text.token_labels(trace), session.theme())
    how_to_read = (
        "Above, the indexer's score of each key. Below, the attention that the heads would give it without a "
        "selection, mean of heads. A good indexer gives the highest scores to the keys that the heads attend to most."
    )
    table = tables.keys_of(trace, token, score=row, **{DENSE: weights, "kept": mask})
    controls.chart(figure, "sparse-query", table, how_to_read, layer=layer)
