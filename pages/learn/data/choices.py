"""The widget of the Data page above its tabs: which report."""

import streamlit as st

from pages.learn.data.reports import FILES, TRAINING


def report() -> str:
    """Choose one of the reports by name."""
    meaning = "Damaged texts are a test: every one was made or chosen to be dropped."
    return st.segmented_control(
        "Report", FILES, default=TRAINING, required=True, key="report", bind="query-params", help=meaning
    )
