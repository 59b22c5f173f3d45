"""The widget above the tabs of the Data page, which chooses the report."""

import streamlit as st

from pages.learn.data.reports import FILES, TRAINING


def report() -> str:
    """Draw a list of reports and return the name of the chosen one."""
    meaning = "Damaged texts are a test: every one was made or chosen to be dropped."
    return st.segmented_control(
        "Report", FILES, default=TRAINING, required=True, key="report", bind="query-params", help=meaning
    )
