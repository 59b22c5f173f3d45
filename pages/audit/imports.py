"""Imports: what another engine's router did, on the pages of this app."""

import streamlit as st

from pages.common import imports_file, imports_live, session, view

st.markdown("What did another engine's router do? Bring the file that it wrote: every page then shows that run.")
status = st.container(key="status").empty()
imports_live.go_on(status)
shown = session.shown()
view.status(status, session.own_run(), shown)
imports_file.choose()
imports_live.ask()
if shown is not None and shown.trace is not None:
    imports_file.contents(shown.trace)
imports_file.formats()
