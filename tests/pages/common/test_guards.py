from streamlit.testing.v1 import AppTest

from pages.common import guards
from tests.traces import random_trace


def guarded_page() -> None:
    import dataclasses

    import streamlit as st

    from pages.common import guards
    from tests.traces import random_trace

    trace = random_trace()
    guards.require(dataclasses.replace(trace, data=trace.data.drop_vars("attention")), "expert_id", "attention")
    st.write("reached")


def test_guard_says_what_to_capture_and_ends_the_page() -> None:
    app = AppTest.from_function(guarded_page).run()
    assert "--capture attention" in app.info[0].value
    assert not app.markdown


def test_guard_lets_a_complete_trace_pass() -> None:
    trace = random_trace()
    assert guards.require(trace, "expert_id", "attention") is trace
