"""Counterfactual: what changes when the routing changes."""

import streamlit as st

from model.run.request import RequestError
from pages.common import controls, guards, results, session, text, view
from pages.intervene.counterfactual import choices, example, overview, runs, tabs

st.markdown("What if the router had chosen otherwise? Change the routing, run the text again, and see what moves.")
shown = session.shown()
trace = guards.require(shown.trace if shown else None, "expert_id")
view.status(st.container(key="status").empty(), None, shown)
with st.container(horizontal=True, vertical_alignment="bottom"):
    kind = choices.kind(trace)
    token = controls.token(trace)
    layer = controls.layer(trace)
    try:
        change, error = choices.change(kind, trace, token, layer), None
    except RequestError as refusal:
        change, error = (), str(refusal)
st.markdown(choices.QUESTIONS[kind])
if reservation := choices.reservation(trace, kind, layer):
    st.caption(reservation)
experiment = None if error else runs.current(trace, change)
with st.container(horizontal=True, vertical_alignment="center"):
    going = experiment is not None and experiment.waiting
    st.button("Run", key="run-experiment", type="primary", on_click=runs.ask, disabled=bool(error))
    st.button("Stop", key="stop-experiment", on_click=runs.stop, disabled=not going)
    placeholder = st.container(key="experiment-status").empty()

if experiment is not None and experiment.waiting:
    runs.execute(experiment, placeholder)
    st.rerun()
error = error or (experiment.error if experiment is not None else None)
if error:
    placeholder.error(text.sentence(error))
elif experiment is None:
    placeholder.caption(
        "Press Run: the text runs once with the change, then up to 39 times with random experts changed instead, as a "
        "control."
    )
answered = experiment if experiment is not None and experiment.has_effect else None
if answered is not None:
    results.put("experiment", answered, (trace, answered.outcome))
if experiment is None and not error:
    answered = example.of(trace)
    if answered is not None:
        st.markdown(example.notice(answered, change))
if answered is not None:
    overview.verdict(answered)
    overview.both_texts(answered)
    overview.strip(answered, token)

for name, tab in controls.open_tabs(tabs.TABS, "answer"):
    with tab:
        tabs.TABS[name](answered, token)
