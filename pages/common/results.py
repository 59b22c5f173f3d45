"""What a page made beside the run on show: a comparison, an experiment, two trainings. Lessons compute with it."""

from collections.abc import Hashable
from typing import Any

import streamlit as st

LESSON = "lesson-place"  # in the session's state while a lesson is open


def put(name: str, key: Hashable, value: Any) -> None:
    """Store a result; if it is new and a lesson is open, begin the script anew: the lesson is drawn before the page.

    Args:
        name: "comparison", "experiment" or "collapse".
        key: equal as long as the result is the same.
        value: the result.
    """
    stored = of_session()
    if name not in stored or stored[name][0] != key:
        stored[name] = (key, value)
        if LESSON in st.session_state:
            st.rerun()


def of_session() -> dict[str, tuple[Hashable, Any]]:
    """Return the session's results and their keys by name."""
    return st.session_state.setdefault("results", {})
