"""Data: what a model was trained on, and what was left out."""

import streamlit as st

from pages.common import controls, text
from pages.common import data_answers as answers

st.markdown(
    "What was the model trained on, and what was left out? Every text passes the same steps, each with a reason."
)
try:
    reports = answers.reports()
except (ValueError, OSError) as problem:
    st.error(f"The report cannot be read: {text.plain(problem)}. Make one with `python -m model curate`.")
    st.stop()
name = answers.choose()
report = reports[name]
st.markdown(answers.summary(name, report))
answers.picture(report)

for name_of_tab, tab in controls.open_tabs(answers.TABS, "table"):
    with tab:
        answers.about(name_of_tab, name, report)
