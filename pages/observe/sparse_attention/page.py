"""Sparse attention: which earlier tokens a token may read, and what that loses."""

import streamlit as st

from model.trace import sparse
from pages.common import controls, session, view
from pages.observe.sparse_attention import tabs

st.markdown("Which earlier tokens may it read? An indexer scores them all, and attention reads only the best.")
run = session.shown()
trace = tabs.require(run)
assert run is not None
view.status(st.container(key="status").empty(), session.own_run(), run)
with st.container(horizontal=True, vertical_alignment="bottom"):
    layer = controls.layer(trace, options=trace.data["indexer_layer"].values.tolist())
    token = controls.token(trace)
    head = controls.head(trace)
    top_k = tabs.top_k(trace)
kept = sparse.kept_at(tabs.scores(trace, layer), top_k)
tabs.verdict(run, layer, token, kept)
left, right = st.columns([1, 1])
with left:
    tabs.overview(run, layer, token, kept)
with right:
    tabs.one_query(run, layer, token, kept)

for name, tab in controls.open_tabs(tabs.TABS, "part"):
    with tab:
        tabs.about(name, run, layer, head, token, kept)
