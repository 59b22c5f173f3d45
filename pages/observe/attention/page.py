"""Attention: what each head looks at."""

import streamlit as st

from model.trace import attention
from pages.common import controls, heads, session, view
from pages.observe.attention import head_map, tabs, values
from viz.attention import MAP_PIXELS
from viz.thumbnails import thumbnail_columns

st.markdown("What does it look at? Every head spreads a token's attention over that token and those before it.")
run = session.shown()
trace = heads.require(run)
assert run is not None
view.status(st.container(key="status").empty(), session.own_run(), run)
with st.container(horizontal=True, vertical_alignment="bottom"):
    layer = controls.layer(trace, options=heads.layers(trace))
    head = controls.head(trace, heads.numbers(trace, layer))
    token = controls.token(trace)
left, right = st.columns(2, vertical_alignment="bottom")
with left:
    sort = st.segmented_control(
        "Sort heads by", list(tabs.SORTS), default="index", required=True, key="sort", bind="query-params"
    )
with right:
    counted = controls.population(trace)
figures = values.overview(run, layer).figures
summary = attention.over_queries(figures, attention.choosing_queries(counted))
ranked = tabs.order(summary, sort or "index")

with st.container(horizontal=True, vertical_alignment="center"):
    window = head_map.part(run)
    of_cell = head_map.of_cell(window)
shown = head_map.Shown(layer, head, token, window, of_cell)
with st.container(horizontal=True):
    with st.container(width=MAP_PIXELS):
        head_map.big(run, shown)
    with st.container(width=250 if thumbnail_columns(len(ranked)) == 2 else "stretch"):
        tabs.thumbnails(run, shown, ranked, summary, sort or "index")
    with st.container(width="stretch"):
        tabs.looks_at(run, shown)

for name, tab in controls.open_tabs(tabs.TABS, "tab"):
    with tab:
        tabs.about(name, run, shown, ranked, counted)
