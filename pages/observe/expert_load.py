"""Expert load: whether the experts of a layer share the work."""

import streamlit as st

from pages.common import controls, guards, load_answers, loads, session, view

st.markdown("Is the work shared? How many tokens each expert took, against a fair share and against chance.")
shown = session.shown()
trace = guards.require(shown.trace if shown else None, "expert_id")
guards.require_num_experts(trace)
view.status(st.container(key="status").empty(), session.own_run(), shown)
load = loads.measure(trace, controls.population(trace))
load_answers.remarks(trace, load)
if load.num_tokens == 0:
    load_answers.nothing_counted(load)
    st.stop()
st.markdown(load_answers.verdict(load))
load_answers.overview(load)
st.markdown(load_answers.worst(load))

with st.container(horizontal=True, vertical_alignment="bottom"):
    layer = controls.layer(trace)
    expert = controls.expert(trace)
for name, tab in controls.open_tabs(load_answers.TABS, "view"):
    with tab:
        load_answers.about(name, load, layer, expert)
