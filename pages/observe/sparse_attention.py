"""Sparse attention: which earlier tokens a token may read, and what that loses."""

import streamlit as st

from model.trace import sparse
from pages.common import controls, session, sparse_answers, view

st.markdown("Which earlier tokens may it read? An indexer scores them all, and attention reads only the best.")
run = session.shown()
trace = sparse_answers.require(run)
assert run is not None
view.status(st.container(key="status").empty(), session.own_run(), run)
with st.container(horizontal=True, vertical_alignment="bottom"):
    layer = controls.layer(trace, options=trace.data["indexer_layer"].values.tolist())
    token = controls.token(trace)
    head = controls.head(trace)
    top_k = sparse_answers.top_k(trace)
kept = sparse.kept_at(sparse_answers.scores(trace, layer), top_k)
sparse_answers.verdict(run, layer, token, kept)
left, right = st.columns([1, 1])
with left:
    sparse_answers.overview(run, layer, token, kept)
with right:
    sparse_answers.one_query(run, layer, token, kept)

for name, tab in controls.open_tabs(sparse_answers.TABS, "part"):
    with tab:
        sparse_answers.about(name, run, layer, head, token, kept)
