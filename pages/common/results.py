"""What a page made beside the run on show: a comparison, an experiment, two trainings. Lessons compute with it."""

from collections.abc import Hashable
from typing import Any

import streamlit as st

_RESULTS, _READ = "results", "results-read"
Results = dict[str, tuple[Hashable, Any]]


def put(name: str, key: Hashable, value: Any) -> None:
    """Store a result under a name, and begin the script anew if a lesson beside the page shows numbers of an older one.

    Call it while the page is drawn. The lesson is drawn before the page, so otherwise it would lag behind.

    Args:
        name: "comparison", "experiment" or "collapse".
        key: equal as long as the result is the same.
        value: the result.
    """
    stored = of_session()
    if name in stored and stored[name][0] == key:
        return
    stored[name] = (key, value)
    if st.session_state.get(_READ):
        st.rerun()


def of_session() -> Results:
    """Return the session's results and their keys by name."""
    return st.session_state.setdefault(_RESULTS, {})


def read(wanted: bool) -> Results:
    """Return the session's results. `wanted`: whether a new result must begin the script anew."""
    st.session_state[_READ] = wanted
    return of_session()
