"""Tokens: where the text is cut."""

import streamlit as st

from pages.common import controls, guards, session, token_answers, token_tables, view

st.markdown("Where are the boundaries? The text as the model reads it, token by token, down to the bytes.")
shown = session.shown()
trace = guards.require(shown.trace if shown else None, "token_id")
view.status(st.container(key="status").empty(), session.own_run(), shown)
token_answers.remarks(trace)
token = token_answers.text(trace)
if token is not None:
    st.markdown(token_tables.about(trace, token))

for name, tab in controls.open_tabs(token_answers.TABS, "of"):
    with tab:
        token_answers.about(name, trace)
