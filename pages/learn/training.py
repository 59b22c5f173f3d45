"""Training: what the steps did to the loss and to the routers."""

import streamlit as st

from pages.common import controls, training_logs
from pages.common import training_answers as answers

st.markdown(
    "How did training go? Loss, held-out text and every expert's load over the steps, and runs that went wrong."
)
logs = training_logs.logs()
if not logs:
    st.info("No log comes along.")
    st.stop()
log, beside = answers.choose(logs)
st.markdown(f"**{log.name}**: {log.says}")
answers.alarms(log)
answers.loss(log, beside)
layer = answers.choose_layer(log)
for name, tab in controls.open_tabs(answers.TABS, "view"):
    with tab:
        answers.about(name, log, layer)
