"""Data: what a model was trained on, and what was left out."""

import streamlit as st

from pages.common import controls, text
from pages.learn.data import tabs

st.markdown(
    "What was the model trained on, and what was left out? Every text passes the same steps, each with a reason."
)
try:
    reports = tabs.reports()
except (ValueError, OSError) as problem:
    st.error(f"The report cannot be read: {text.plain(problem)}. Make one with `python -m model curate`.")
    st.stop()
name = tabs.choose()
report = reports[name]
st.markdown(tabs.summary(name, report))
tabs.picture(report)

for name_of_tab, tab in controls.open_tabs(tabs.TABS, "table"):
    with tab:
        tabs.about(name_of_tab, name, report)
