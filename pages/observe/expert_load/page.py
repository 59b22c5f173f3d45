"""Expert load: whether the experts of a layer share the work."""

import streamlit as st

from pages.common import controls, guards, loads, session, view
from pages.observe.expert_load import tabs

st.markdown("Is the work shared? How many tokens each expert took, against a fair share and against chance.")
shown = session.shown()
trace = guards.require(shown.trace if shown else None, "expert_id")
guards.require_num_experts(trace)
view.status(st.container(key="status").empty(), session.own_run(), shown)
load = loads.measure(trace, controls.population(trace))
tabs.remarks(trace, load)
if load.num_tokens == 0:
    tabs.nothing_counted(load)
    st.stop()
st.markdown(tabs.verdict(load))
tabs.overview(load)
st.markdown(tabs.worst(load))

with st.container(horizontal=True, vertical_alignment="bottom"):
    layer = controls.layer(trace)
    expert = controls.expert(trace)
for name, tab in controls.open_tabs(tabs.TABS, "view"):
    with tab:
        tabs.about(name, load, layer, expert)
