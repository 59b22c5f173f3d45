"""The tabs of the Sparse attention page."""

from collections.abc import Callable

import pandas as pd
import streamlit as st
import xarray as xr

from model.trace import sparse
from pages.common import controls, heads, session, text
from pages.common.runs import Run
from pages.observe.sparse_attention import cost
from pages.observe.sparse_attention.overview import DENSE
from viz import sparse as figures


def left_out(run: Run, layer: int, head: int, token: int, kept: xr.DataArray) -> None:
    """List the keys that a token could not read, in falling order of their dense attention."""
    trace, missed = heads.trace_of(run), sparse.missed(heads.dense(run, layer), kept, token)
    if not missed.sizes["key"]:
        st.caption("This token left out no key.")
        return
    num_keys, lost = missed.sizes["key"], sparse.lost(missed)
    st.caption(f"{num_keys} keys with {lost:.1%} of the token's attention together. Derived, mean of heads.")
    keys = missed["key"].values.tolist()
    table = pd.DataFrame({"key": keys, "text": [text.token(trace, key) for key in keys], DENSE: missed.values})
    st.dataframe(table, hide_index=True, height=300, placeholder="")
    controls.download_table(table, "sparse-left-out", layer)


def over_text(run: Run, layer: int, head: int, token: int, kept: xr.DataArray) -> None:
    """Draw the recall of every query, and the recall of the best selection with the same number of keys."""
    queries = sparse.choosing(kept)
    if not len(queries):
        st.caption("No token of this text left out a key. Generate a longer text, or keep fewer keys.")
        return
    recalled = sparse.recall_over_text(heads.dense(run, layer), kept, head)
    title = f"layer {layer}, head {head}, n = {len(queries)} tokens that left out a key"
    figure = figures.recall_by_query(recalled["indexer"], recalled["best"], session.theme(), title)
    how_to_read = (
        "Share of the head's attention without a selection that lies on kept keys. The dotted line shows the share "
        "on the best selection: as many keys, those with the most attention in the mean of all heads. For a single "
        "head, another selection can be better still."
    )
    shares = {"indexer": recalled["indexer"].values[queries], "best selection": recalled["best"].values[queries]}
    controls.chart(figure, "sparse-recall", pd.DataFrame({"query": queries} | shares), how_to_read, layer=layer)


def all_layers(run: Run, layer: int, head: int, token: int, kept: xr.DataArray) -> None:
    """Draw the mean recall of every layer and head, at the model's own number of keys."""
    layers = heads.trace_of(run).data["indexer_layer"].values.tolist()
    rows = [heads.recall_by_head(run, number) for number in layers]
    known = [row for row in rows if row is not None]
    if len(known) < len(rows):
        st.caption("No token of this text left out a key.")
        return
    means = xr.concat(known, "layer").assign_coords(layer=layers)
    figure = figures.recall_map(means, session.theme(), (layer, head))
    how_to_read = (
        "Mean share of attention on kept keys, over the tokens that left out a key; 1 means that no attention is "
        "lost. Click a cell to choose its layer and head."
    )
    controls.chart(
        figure, "sparse-layers", means.to_dataframe("recall").reset_index(), how_to_read, chooses=("layer", "head")
    )


def costs(run: Run, layer: int, head: int, token: int, kept: xr.DataArray) -> None:
    """Show the cost of decoding a token that keeps the chosen number of keys."""
    cost.show(heads.trace_of(run), layer, sparse.num_kept(kept))


TABS: dict[str, Callable[[Run, int, int, int, xr.DataArray], None]] = {
    "Left out": left_out,
    "Over the text": over_text,
    "All layers": all_layers,
    "Cost": costs,
}
