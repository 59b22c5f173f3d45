"""Training: what the steps did to the loss and to the routers."""

import streamlit as st

from pages.common import controls
from pages.learn.training import logs as training_logs
from pages.learn.training import tabs

st.markdown(
    "How did training go? Loss, held-out text and every expert's load over the steps, and runs that went wrong."
)
logs = training_logs.logs()
if not logs:
    st.info("No log comes along.")
    st.stop()
log, beside = tabs.choose(logs)
st.markdown(f"**{log.name}**: {log.says}")
tabs.alarms(log)
tabs.loss(log, beside)
layer = tabs.choose_layer(log)
for name, tab in controls.open_tabs(tabs.TABS, "view"):
    with tab:
        tabs.about(name, log, layer)
