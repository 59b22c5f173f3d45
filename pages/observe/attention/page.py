"""Attention: which tokens each head looks at."""

import streamlit as st

from model.trace import attention
from pages.common import controls, guards, heads, session, view
from pages.observe.attention import choices, head_map, overview, values
from pages.observe.attention.tabs import TABS
from viz.attention import MAP_PIXELS
from viz.thumbnails import thumbnail_columns

st.markdown(
    "What does each head look at?",
    help="A head is one of several attention computations in a layer. It spreads a token's attention over that token "
    "and the tokens before it.",
)
run = session.shown()
trace = heads.require(run)
assert run is not None
view.status(st.container(key="status").empty(), session.own_run(), run)
with st.container(horizontal=True, vertical_alignment="bottom"):
    layer = controls.layer(trace, options=heads.layers(trace))
    head = controls.head(trace, heads.numbers(trace, layer))
    token = controls.token(trace)
st.markdown(overview.verdict(run, layer, head, token))
if lacking := overview.without_attention(trace):
    st.caption(lacking)
left, right = st.columns(2, vertical_alignment="bottom")
with left:
    sort = choices.sort()
with right:
    counted = controls.population(trace)
summary = values.summary(run, layer, attention.choosing_queries(counted))
ranked = overview.order(summary, sort)

with st.container(horizontal=True, vertical_alignment="center"):
    window = choices.window(run)
    statistic = choices.statistic(window)
chosen = choices.Selection(layer, head, token, window, statistic)
with st.container(horizontal=True):
    with st.container(width=MAP_PIXELS):
        head_map.one_head(run, chosen)
    with st.container(horizontal=True, width="stretch"):  # the keys move below the thumbnails where both do not fit
        with st.container(width=250 if thumbnail_columns(len(ranked)) == 2 else "stretch"):
            overview.thumbnails(run, chosen, ranked, summary, sort)
        with st.container(width=420):
            overview.token_keys(run, chosen)

for name, tab in controls.open_tabs(TABS, "tab"):
    with tab, guards.refusal_shown():
        TABS[name](run, chosen, ranked, counted)
