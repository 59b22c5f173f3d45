"""Tokens: where the text is cut."""

import streamlit as st

from pages.common import controls, guards, session, view
from pages.observe.tokens import tables, tabs

st.markdown("Where are the boundaries? The text as the model reads it, token by token, down to the bytes.")
shown = session.shown()
trace = guards.require(shown.trace if shown else None, "token_id")
view.status(st.container(key="status").empty(), session.own_run(), shown)
tabs.remarks(trace)
token = tabs.text(trace)
if token is not None:
    st.markdown(tables.about(trace, token))

for name, tab in controls.open_tabs(tabs.TABS, "of"):
    with tab:
        tabs.about(name, trace)
