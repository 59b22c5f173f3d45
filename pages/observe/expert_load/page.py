"""Expert load: whether the experts of a layer share the tokens evenly."""

import streamlit as st

from model.trace import load as loads
from pages.common import controls, guards, session, view
from pages.observe.expert_load import overview
from pages.observe.expert_load.tabs import TABS

st.markdown(
    "Do the experts share the load?",
    help="Load is how many tokens an expert took. The page shows it as a ratio: 1 is a fair share, the load if all "
    "experts took equally many tokens. Chance is a router that chooses at random.",
)
shown = session.shown()
trace = guards.require(shown.trace if shown else None, "expert_id")
guards.require_num_experts(trace)
view.status(st.container(key="status").empty(), session.own_run(), shown)
load = loads.measure(trace, controls.population(trace))
overview.remarks(trace, load)
if load.num_tokens == 0:
    overview.nothing_counted(load)
    st.stop()
st.markdown(overview.verdict(load))
overview.heat_map(load)
st.markdown(overview.worst(load))

with st.container(horizontal=True, vertical_alignment="bottom"):
    layer = controls.layer(trace)
    expert = controls.expert(trace)
for name, tab in controls.open_tabs(TABS, "view"):
    with tab:
        TABS[name](load, layer, expert)
