"""Doctor: whether a checkpoint is healthy, by its weights and by how it routes some text."""

import streamlit as st

from pages.audit.doctor import report as answers
from pages.common import guards, models

st.markdown(
    "Is this checkpoint healthy? Every weight is looked at; some text, if you like, is run and its routing judged."
)
if not models.available():
    guards.stop_with(f"No model is installed. Name a model folder in {models.VARIABLE} and start again.")
folder = models.available()[models.chosen()]
weights = answers.begin(folder)
text = answers.ask(folder)
answers.watch(folder, weights, text)
report = answers.together(weights, text)
if report is None:
    st.stop()
st.markdown(answers.verdict(report))
answers.layers(report)
answers.findings(report)
with st.expander("What was looked at", icon=":material/checklist:", expanded=True):
    answers.looked_at(report)
answers.download(report)
