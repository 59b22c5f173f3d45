"""Imports: show how another engine routed tokens, on the pages of this app."""

import streamlit as st

from pages.audit.imports import choices, engine, overview
from pages.common import session, view

st.markdown("What did another engine's router do? Upload the file that it wrote: every page then shows that run.")
status = st.container(key="status").empty()
engine.go_on(status)
shown = session.shown()
view.status(status, session.own_run(), shown)
choices.choose()
engine.ask()
if st.session_state.get("import_counts") is not None:
    overview.counts(st.session_state["import_counts"])
if shown is not None and shown.trace is not None:
    overview.contents(shown.trace)
overview.formats()
