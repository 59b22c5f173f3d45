"""Data: what a model was trained on, and what was left out."""

import streamlit as st

from pages.common import controls, files, text
from pages.learn.data import choices, overview, tabs
from pages.learn.data.reports import reports

st.markdown("What was the model trained on, and what was left out? Every step that a text passes has a reason.")
try:
    by_name = reports()
except (ValueError, OSError) as error:
    st.error(f"The report cannot be read: {text.plain(error)}. Make one with `python -m model curate`.")
    st.stop()
name = choices.report()
files.describe(f"data, {name}")
st.markdown(overview.summary(name, by_name[name]))
overview.figure(by_name[name])

for tab_name, tab in controls.open_tabs(tabs.TABS, "table"):
    with tab:
        tabs.TABS[tab_name](name, by_name[name])
