"""The answers of the Sparse attention page: what the indexer chose, what it left out, and what that costs and saves."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr

from model.run.request import RequestError
from model.trace import sparse
from model.trace.trace import Trace
from pages.common import controls, guards, heads, session, text
from pages.common.head_tables import labels, row_table
from pages.common.runs import Run
from viz import sparse as pictures

if TYPE_CHECKING:
    from model.run.decode_cost import DecodeCost
    from model.run.engine import Engine

TABS = ["Left out", "Over the text", "All layers", "Cost"]
_DENSE = "attention without selection"
TIMED = (1_024, 4_096, 16_384)  # contexts beside the text's own


# --- what there is ---------------------------------------------------------------------------------------------------


def require(run: Run | None) -> Trace:
    """The trace, when it is of a sparse model, holds the indexer, and its dense attention can be computed here."""
    trace = guards.require(run.trace if run else None)
    if "index_topk" not in trace.config:
        guards.stop_with(
            f"{text.plain(trace.model.get('name', 'This model'), 80)} attends to every earlier token: it has no "
            "indexer. Choose a V3.2 model in the sidebar, and generate."
        )
    guards.require(trace, "indexer_score", "layer_input")
    try:
        heads.engine_for(trace)
    except RequestError as problem:
        guards.stop_with(text.plain(problem))
    return trace


def top_k(trace: Trace) -> int:
    """Choose how many keys a query keeps: as many as the model does, or another number."""
    own = int(trace.config["index_topk"])
    most = max(2, trace.num_tokens)
    said = f"The model keeps {own}. Another number chooses anew from the same scores, in this layer alone."
    return st.slider("Keys kept", 1, most, min(own, most), key="kept", bind="query-params", help=said)


def scores(trace: Trace, layer: int) -> xr.DataArray:
    """The indexer's scores of a layer, [query, key]."""
    return trace.data["indexer_score"].sel(indexer_layer=layer, drop=True)


def dense(run: Run, layer: int) -> xr.DataArray:
    """The attention that the layer would pay without a selection, [head, query, key], from its recorded input."""
    trace = heads.trace_of(run)
    return _dense(run.number, layer, heads.engine_for(trace), trace)


@st.cache_resource(show_spinner="Computing the attention without a selection", max_entries=8)
def _dense(number: int, layer: int, _engine: "Engine", _trace: Trace) -> xr.DataArray:
    from model.run.attention import head_attention

    return head_attention(_engine, _trace, layer)


# --- the main figure -------------------------------------------------------------------------------------------------


def verdict(run: Run, layer: int, token: int, kept: xr.DataArray) -> None:
    """One sentence on the token."""
    weights, count = dense(run, layer), int(kept.isel(query=token).sum())
    if count > token:
        st.markdown(f"Token {token} sees {count} tokens, itself included, and keeps them all. {_first_to_choose(kept)}")
        return
    held = float(sparse.recall(weights, kept).isel(query=token).mean())
    best = float(sparse.recall(weights, sparse.best_at(weights, count)).isel(query=token).mean())
    st.markdown(
        f"Token {token} keeps **{count} of {token + 1}** keys. They hold **{held:.1%}** of the attention that it would "
        f"pay without a selection (mean of {weights.sizes['head']} heads); the best {count} keys hold {best:.1%}."
    )


def _first_to_choose(kept: xr.DataArray) -> str:
    places = sparse.choosing(kept)
    return f"The first that has to leave some out is token {places[0]}." if len(places) else "So does every other."


def overview(run: Run, layer: int, token: int, kept: xr.DataArray) -> None:
    """All queries and keys of the layer."""
    trace, weights = heads.trace_of(run), dense(run, layer).mean("head")
    title = f"blue kept, orange left out, n = {trace.num_tokens} tokens"
    figure = pictures.selection_map(weights, kept, session.theme(), token, title)
    said = (
        "Derived, mean of the layer's heads. A row is a query, a column a key. Blue keys were kept; orange ones were "
    )
    said += "left out, the stronger the more attention they would have got. Click a row to look at its token."
    table = row_table(trace, token, **{_DENSE: weights.isel(query=token), "kept": kept.isel(query=token)})
    controls.chart(figure, "sparse-map", table, said, chooses=("token",))


def one_query(run: Run, layer: int, token: int, kept: xr.DataArray) -> None:
    """The keys of one query: score and attention."""
    trace, seen = heads.trace_of(run), slice(0, token + 1)
    weights = dense(run, layer).mean("head").isel(query=token, key=seen)
    row, mask = scores(trace, layer).isel(query=token, key=seen), kept.isel(query=token, key=seen)
    figure = pictures.query_panels(row, mask, weights, labels(trace), session.theme())
    said = "Above, the indexer's score of every key of this token; below, the dense attention: what all heads together "
    said += "would pay without a selection. A good indexer scores highest what is attended to most."
    table = row_table(trace, token, score=row, **{_DENSE: weights, "kept": mask})
    controls.chart(figure, "sparse-query", table, said)


# --- closer below ----------------------------------------------------------------------------------------------------


def about(name: str, run: Run, layer: int, head: int, token: int, kept: xr.DataArray) -> None:
    """Fill the tab of that name."""
    if name == "Left out":
        left_out(run, layer, token, kept)
    elif name == "Over the text":
        over_the_text(run, layer, head, kept)
    elif name == "All layers":
        all_layers(run, layer, head)
    else:
        cost(heads.trace_of(run), layer, int(kept.sum("key").max()))


def left_out(run: Run, layer: int, token: int, kept: xr.DataArray) -> None:
    """The keys that a token could not read, those it would have read most first."""
    trace, missed = heads.trace_of(run), sparse.missed(dense(run, layer), kept, token)
    if not missed.sizes["key"]:
        st.caption("This token left out nothing.")
        return
    lost = float(missed.sum())
    st.caption(f"Derived: {missed.sizes['key']} keys with {lost:.1%} of its attention together, mean of heads.")
    keys = missed["key"].values.tolist()
    table = pd.DataFrame({"key": keys, "text": [text.token(trace, key) for key in keys], _DENSE: missed.values})
    st.dataframe(table, hide_index=True, height=300)
    controls.download_table(table, "sparse-left-out")


def over_the_text(run: Run, layer: int, head: int, kept: xr.DataArray) -> None:
    """Recall of every query, beside the best choice of as many keys."""
    weights, places = dense(run, layer), sparse.choosing(kept)
    if not len(places):
        st.caption("No token of this text had to leave out a key. Generate a longer text, or keep fewer keys.")
        return
    count = int(kept.sum("key").max())
    recalled, oracle = (sparse.recall(weights, mask).isel(head=head) for mask in (kept, sparse.best_at(weights, count)))
    chosen = np.isin(np.arange(kept.sizes["query"]), places)
    recalled, oracle = recalled.where(chosen), oracle.where(chosen)
    title = f"layer {layer}, head {head}, n = {len(places)} tokens that left out a key"
    figure = pictures.recall_by_query(recalled, oracle, session.theme(), title)
    said = "Share of the head's attention that lies on keys that were kept. The dotted line is the best choice of as "
    said += "many keys for all heads together; one head can do better with another choice."
    table = pd.DataFrame({"query": places, "indexer": recalled.values[places], "best choice": oracle.values[places]})
    controls.chart(figure, "sparse-recall", table, said)


def all_layers(run: Run, layer: int, head: int) -> None:
    """Mean recall of every layer and head, at the model's own number of keys."""
    trace = heads.trace_of(run)
    layers, rows = trace.data["indexer_layer"].values.tolist(), []
    for number in layers:
        recalled = _recall_by_head(run, number)
        if recalled is None:
            st.caption("No token of this text had to leave out a key.")
            return
        rows.append(recalled)
    means = xr.concat(rows, "layer").assign_coords(layer=layers)
    figure = pictures.recall_map(means, session.theme(), (layer, head))
    said = "Mean share of attention on kept keys, over the tokens that left out a key. 1 loses nothing. Click a cell "
    said += "to look at its layer and head."
    table = means.to_dataframe("recall").reset_index()
    controls.chart(figure, "sparse-layers", table, said, chooses=("layer", "head"))


def _recall_by_head(run: Run, layer: int) -> xr.DataArray | None:
    """Mean recall of each head over the tokens that left out a key, [head]; None when there is no such token."""
    kept = heads.trace_of(run).data["indexer_kept"].sel(indexer_layer=layer, drop=True)
    places = sparse.choosing(kept)
    return sparse.recall(dense(run, layer), kept).isel(query=places).mean("query") if len(places) else None


def mean_recall(run: Run | None, layer: int) -> float | None:
    """The mean over a layer's heads; None where it is not known: no indexer, nothing left out, or no such weights."""
    trace = run.trace if run else None
    if run is None or trace is None or not (trace.has("indexer_kept") and trace.has("layer_input")):
        return None
    try:
        recalled = _recall_by_head(run, layer) if layer in trace.data["indexer_layer"].values else None
    except RequestError:
        return None
    return None if recalled is None else float(recalled.mean())


def cost(trace: Trace, layer: int, top_k: int) -> None:
    """What a decoded token costs, dense and sparse: the time here, and the multiply-adds."""
    contexts = (trace.num_tokens, *(context for context in TIMED if context > trace.num_tokens))
    found = [
        _measured(str(trace.model.get("name")), layer, context, top_k, heads.engine_for(trace)) for context in contexts
    ]
    dense, selected, indexer = ([getattr(one, name) for one in found] for name in ("dense", "sparse", "indexer"))
    figure = pictures.cost_by_context(contexts, dense, selected, indexer, session.theme())
    said = (
        f"Measured on this machine while others may use it: one new token in layer {layer}, keeping {top_k} keys, with "
        "random keys in the cache. Attention to selected keys does not grow with the context; the indexer, which looks "
        "at every key with few narrow heads, does."
    )
    columns = {"attention, every key (µs)": dense, "attention, selected keys (µs)": selected, "indexer (µs)": indexer}
    controls.chart(figure, "sparse-cost", pd.DataFrame({"context": contexts} | columns), said)
    far = (*contexts, 131_072)
    rows = [{"context": context} | sparse.core_products(context, top_k, trace.config) for context in far]
    st.caption("Derived: multiply-adds of the same token in one layer that grow with what is read.")
    st.dataframe(pd.DataFrame(rows), hide_index=True)


@st.cache_resource(show_spinner="Measuring", max_entries=64)
def _measured(name: str, layer: int, context: int, top_k: int, _engine: "Engine") -> "DecodeCost":
    from model.run.decode_cost import decode_cost

    return decode_cost(_engine.model, layer, context, top_k)
