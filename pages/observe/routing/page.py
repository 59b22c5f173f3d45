"""Routing: why a token went to the experts it went to."""

import streamlit as st

from pages.common import controls, guards, routing_tables, session, token_row, view
from pages.observe.routing import tabs

st.markdown("Why did this token go there? The experts it took in every layer, and what decided it.")
shown = session.shown()
trace = guards.require(shown.trace if shown else None, "expert_id")
view.status(st.container(key="status").empty(), session.own_run(), shown)
with st.container(horizontal=True, vertical_alignment="bottom"):
    token = controls.token(trace)
    layer = controls.layer(trace)
    chosen = controls.expert(trace, routing_tables.strongest(trace, token, layer))
token_row.show(trace, token)
tabs.remarks(trace)
tabs.path(trace, token, layer, chosen)

for name, tab in controls.open_tabs(tabs.TABS, "part"):
    with tab:
        tabs.about(name, trace, token, layer, chosen)
