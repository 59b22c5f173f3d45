import pytest
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


def short_page() -> None:
    import streamlit as st

    from pages.common import guards

    with guards.shortage_shown():
        raise st.session_state["problem"]
    st.write("the page goes on")


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (MemoryError(), "the machine ran out of memory"),
        (RuntimeError("DefaultCPUAllocator: not enough memory"), "the machine ran out of memory"),
        (OSError(5, "Input/output error", "/srv/models/a.safetensors"), "output error"),
    ],
)
def test_a_shortage_is_one_line(problem: Exception, message: str) -> None:
    app = AppTest.from_function(short_page)
    app.session_state["problem"] = problem
    app.run()
    assert not app.exception
    assert message in app.error[0].value
    assert app.markdown[0].value == "the page goes on"


def test_a_fault_of_ours_is_not_hidden() -> None:
    app = AppTest.from_function(short_page)
    app.session_state["problem"] = RuntimeError("sizes do not fit")
    assert app.run().exception
