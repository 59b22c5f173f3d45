"""Routing: why a token went to its experts."""

import streamlit as st

from pages.common import controls, guards, session, token_row, view
from pages.observe.routing import overview
from pages.observe.routing.tabs import TABS

st.markdown(
    "Why did this token go to these experts?",
    help="In every MoE layer a router scores the experts for a token (affinity), and the token goes to the best few. A "
    "bias and a limit on groups of experts can change which are the best.",
)
shown = session.shown()
trace = guards.require(shown.trace if shown else None, "expert_id")
view.status(st.container(key="status").empty(), session.own_run(), shown)
with st.container(horizontal=True, vertical_alignment="bottom"):
    token = controls.token(trace)
    layer = controls.layer(trace)
    expert = controls.expert(trace, controls.heaviest_expert(trace, token, layer)) or 0
token_row.show(trace, token)
st.markdown(overview.verdict(trace, token, layer))
overview.remarks(trace)
overview.token_path(trace, token, layer, expert)

for name, tab in controls.open_tabs(TABS, "part"):
    with tab:
        TABS[name](trace, token, layer, expert)
