"""Explore: type a prompt and watch every token being routed."""

import streamlit as st

from model.trace.observed_rule import rule_of
from pages.common import controls, live, loads, prompt, runs, session, view
from pages.observe.explore import tabs

st.markdown("Type anything. See which experts each token takes.")
prompt.box()
prompt.examples_row()
with st.container(horizontal=True, vertical_alignment="bottom"):
    buttons = st.container(horizontal=True, width="content")
    prompt.settings()
prompt.start_from_link()
run = session.own_run()
with buttons:
    st.button("Generate", key="generate", type="primary", on_click=prompt.generate)
    st.button("Stop", key="stop", on_click=session.stop, disabled=run is None or not run.waiting)
status, place = st.container(key="status").empty(), st.container()

if run is not None and run.kind == "run" and run.request is not None and run.waiting:
    try:
        engine = session.engine()
        runs.fit(run, engine)
    except ValueError as problem:
        run.refuse(str(problem))
        st.rerun()
    with place:
        view.lens(live.announce(engine, run.request, run.number), engine.config)
    runs.execute(run, engine, status)
    st.rerun()

shown = session.shown()
view.status(status, run, shown)
if shown is None or shown.trace is None:
    st.stop()
trace = shown.trace
tabs.figures(shown)
with st.container(horizontal=True, vertical_alignment="bottom"):
    layer = controls.layer(trace)
    token = controls.token(trace)
    expert = controls.expert(trace)
    head = controls.head(trace)
with place:
    view.lens(shown.snapshot(), rule_of(trace), loads.band(trace))

for name, tab in controls.open_tabs(tabs.TABS, "tab"):
    with tab:
        tabs.about(name, trace, token)
