"""Sparse attention: which earlier tokens a token may read, and how much attention left-out tokens would have had."""

import streamlit as st

from model.trace import sparse
from pages.common import controls, heads, session, view
from pages.observe.sparse_attention import choices, overview
from pages.observe.sparse_attention.tabs import TABS

st.markdown(
    "Which earlier tokens may a token read?",
    help="An indexer, a small network in each layer, scores every earlier token. Attention reads only the best-scored "
    "ones. This is the sparse attention of DeepSeek-V3.2.",
)
run = overview.require(session.shown())
trace = heads.trace_of(run)
view.status(st.container(key="status").empty(), session.own_run(), run)
with st.container(horizontal=True, vertical_alignment="bottom"):
    layer = controls.layer(trace, options=trace.data["indexer_layer"].values.tolist())
    token = controls.token(trace)
    head = controls.head(trace)
    top_k = choices.top_k(trace)
kept = sparse.selected_at(trace, layer, top_k)
overview.verdict(run, layer, token, kept)
left, right = st.columns([1, 1])
with left:
    overview.selection(run, layer, token, kept)
with right:
    overview.keys(run, layer, token, kept)

for name, tab in controls.open_tabs(TABS, "part"):
    with tab:
        TABS[name](run, layer, head, token, kept)
