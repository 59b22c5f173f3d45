"""Counterfactual: what if the routing had been another."""

import streamlit as st

from model.run.request import RequestError
from pages.common import (
    controls,
    counterfactual_answers,
    counterfactual_choices,
    counterfactual_runs,
    guards,
    session,
    text,
    view,
)

st.markdown("What if it had been routed otherwise? Change the routing, run the text again, and see what it moves.")
shown = session.shown()
trace = guards.require(shown.trace if shown else None, "expert_id")
view.status(st.container(key="status").empty(), None, shown)
with st.container(horizontal=True, vertical_alignment="bottom"):
    what = counterfactual_choices.kind()
    token = controls.token(trace)
    layer = controls.layer(trace)
    try:
        change = counterfactual_choices.change(what, trace, token, layer)
        refused = None
    except RequestError as problem:
        change, refused = (), str(problem)
st.markdown(counterfactual_choices.QUESTIONS[what])
experiment = None if refused else counterfactual_runs.current(trace, change)
with st.container(horizontal=True, vertical_alignment="center"):
    going = experiment is not None and experiment.waiting
    st.button("Run", key="run-experiment", type="primary", on_click=counterfactual_runs.ask, disabled=bool(refused))
    st.button("Stop", key="stop-experiment", on_click=counterfactual_runs.stop, disabled=not going)
    place = st.container(key="experiment-status").empty()

if experiment is not None and experiment.waiting:
    counterfactual_runs.execute(experiment, place)
    st.rerun()
refused = refused or (experiment.error if experiment is not None else None)
if refused:
    place.error(text.sentence(refused))
elif experiment is None:
    place.caption("Press Run: the text is run once with the change, and eight times with as many random experts.")
if experiment is not None and experiment.has_effect:
    counterfactual_answers.verdict(experiment)
    counterfactual_answers.both_texts(experiment)
    counterfactual_answers.strip(experiment, token)

for name, tab in controls.open_tabs(counterfactual_answers.TABS, "answer"):
    with tab:
        counterfactual_answers.about(name, experiment, token)
