"""Training: what the steps did to the loss and to the routers."""

import streamlit as st

from pages.common import controls, files
from pages.learn.training import choices, overview, tabs
from pages.learn.training import logs as training_logs

st.markdown(
    "How did training go? The loss, held-out text and every expert's load over the steps, and runs that went wrong."
)
logs = training_logs.logs()
if not logs:
    st.info("No training log is installed.")
    st.stop()
log, beside = choices.logs(logs)
files.describe(f"training of {log.name}")
overview.answer(log)
overview.alarms(log)
overview.loss(log, beside)
layer = choices.layer(log)
for name, tab in controls.open_tabs(tabs.TABS, "view"):
    with tab:
        tabs.TABS[name](log, layer)
