"""Doctor: whether a checkpoint is healthy, by its weights and by how it routes some text."""

import streamlit as st

from pages.audit.doctor import choices, overview
from pages.common import files, guards, models

st.markdown(
    "Is this checkpoint healthy? The doctor reads every weight. Run the texts to check how the model routes, too."
)
if not models.available():
    guards.stop_with(f"No model is installed. Name a model folder in {models.VARIABLE} and start again.")
folder = models.available()[models.chosen()]
weights = choices.weights_audit(folder)
text = choices.text_audit(folder)
overview.progress(weights, text)
report = overview.joined(weights, text)
if report is None:
    st.stop()
files.describe(report.model)
st.markdown(overview.verdict(report))
overview.layers(report)
overview.findings(report, folder)
with st.expander("Checks", icon=":material/checklist:", expanded=True):
    overview.checks(report)
overview.download(report)
