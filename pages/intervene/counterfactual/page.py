"""Counterfactual: what if the routing had been another."""

import streamlit as st

from model.run.request import RequestError
from pages.common import controls, guards, session, text, view
from pages.intervene.counterfactual import choices, runs, tabs

st.markdown("What if it had been routed otherwise? Change the routing, run the text again, and see what it moves.")
shown = session.shown()
trace = guards.require(shown.trace if shown else None, "expert_id")
view.status(st.container(key="status").empty(), None, shown)
with st.container(horizontal=True, vertical_alignment="bottom"):
    what = choices.kind()
    token = controls.token(trace)
    layer = controls.layer(trace)
    try:
        change = choices.change(what, trace, token, layer)
        refused = None
    except RequestError as problem:
        change, refused = (), str(problem)
st.markdown(choices.QUESTIONS[what])
experiment = None if refused else runs.current(trace, change)
with st.container(horizontal=True, vertical_alignment="center"):
    going = experiment is not None and experiment.waiting
    st.button("Run", key="run-experiment", type="primary", on_click=runs.ask, disabled=bool(refused))
    st.button("Stop", key="stop-experiment", on_click=runs.stop, disabled=not going)
    place = st.container(key="experiment-status").empty()

if experiment is not None and experiment.waiting:
    runs.execute(experiment, place)
    st.rerun()
refused = refused or (experiment.error if experiment is not None else None)
if refused:
    place.error(text.sentence(refused))
elif experiment is None:
    place.caption("Press Run: the text is run once with the change, and eight times with as many random experts.")
if experiment is not None and experiment.has_effect:
    tabs.verdict(experiment)
    tabs.both_texts(experiment)
    tabs.strip(experiment, token)

for name, tab in controls.open_tabs(tabs.TABS, "answer"):
    with tab:
        tabs.about(name, experiment, token)
