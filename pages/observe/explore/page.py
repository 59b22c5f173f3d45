"""Explore: type a prompt and watch every token being routed."""

import streamlit as st

from model.trace import load
from model.trace.observed_rule import rule_of
from pages.common import controls, prompt, session, view
from pages.observe.explore import newcomer, overview, size
from pages.observe.explore.tabs import TABS

st.markdown(
    "Which experts does each token take? Type a text and press Generate.",
    help="A token is the piece of text that the model reads at once. An expert is one of many small networks in a "
    "layer; a router sends each token to a few of them.",
)
newcomer.paragraph(session.current_trace())
prompt.box()
size.show()
prompt.examples_row()
with st.container(horizontal=True, vertical_alignment="bottom"):
    buttons = st.container(horizontal=True, width="content")
    with st.container(horizontal=True, vertical_alignment="bottom", key="settings"):
        prompt.settings()
prompt.start_from_link()
run = session.own_run()
with buttons:
    st.button("Generate", key="generate", type="primary", on_click=prompt.generate)
    st.button("Stop", key="stop", on_click=session.stop, disabled=run is None or not run.waiting)
status, lens = st.container(key="status").empty(), st.container()

if run is not None and run.kind == "run" and run.waiting:
    view.follow(run, status, lens)

shown = session.shown()
view.status(status, run, shown, prompt.not_run(shown))
if shown is None or shown.trace is None:
    st.stop()
trace = shown.trace
overview.numbers(shown)
with st.container(horizontal=True, vertical_alignment="bottom"):
    layer = controls.layer(trace)
    token = controls.token(trace)
    expert = controls.expert(trace)
    head = controls.head_or_all(trace)
with lens:
    view.lens(shown.snapshot(), rule_of(trace), load.band(trace))

for name, tab in controls.open_tabs(TABS, "tab"):
    with tab:
        TABS[name](trace, token)
