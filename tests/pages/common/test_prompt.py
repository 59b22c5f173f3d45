from collections.abc import Callable

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from model.run.request import RunRequest
from model.trace.trace import Trace
from pages.common import examples, models, session, text
from tests.traces import random_trace


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[RunRequest]:
    """The requests that were answered without being watched."""
    requests: list[RunRequest] = []

    def answer(request: RunRequest) -> Trace:
        requests.append(request)
        return random_trace(num_new=request.max_new_tokens)

    monkeypatch.setattr(session, "trace_for", answer)
    st.cache_resource.clear()
    return requests


def another_page() -> None:
    import streamlit as st

    from pages.common import prompt, session

    prompt.restore_from_link()
    trace = session.current_trace()
    prompt.mirror()
    st.session_state["count"] = trace.num_tokens if trace else None
    st.session_state["address"] = st.query_params.to_dict()


@pytest.fixture
def open_page(recorded: object) -> Callable[..., AppTest]:
    def opened(**address: str) -> AppTest:
        app = AppTest.from_function(another_page)
        for name, value in address.items():
            app.query_params[name] = value
        return app.run()

    return opened


def test_link_to_another_page_shows_its_run_once(open_page: Callable[..., AppTest], asked: list[RunRequest]) -> None:
    app = open_page(prompt="The sun", new="7", seed="3")
    assert [(request.prompt, request.max_new_tokens, request.seed) for request in asked] == [("The sun", 7, 3)]
    assert app.session_state["count"] == 13
    assert (app.session_state["prompt"], app.session_state["new"]) == ("The sun", 7)
    app.run()
    assert len(asked) == 1


def test_link_without_a_prompt_means_the_example(open_page: Callable[..., AppTest], asked: list[RunRequest]) -> None:
    open_page(seed="4")
    assert [(request.prompt, request.seed) for request in asked] == [(examples.FIRST, 4)]


def test_address_without_a_run_shows_the_recorded_example(
    open_page: Callable[..., AppTest], asked: list[RunRequest]
) -> None:
    app = open_page(layer="2")
    assert (asked, app.session_state["count"], app.session_state["address"]) == ([], 14, {"layer": "2"})


@pytest.mark.parametrize("address", [{"new": "many"}, {"prompt": ""}, {"prompt": "a", "top_p": "7"}])
def test_link_that_cannot_be_followed_says_so(
    open_page: Callable[..., AppTest], asked: list[RunRequest], address: dict[str, str]
) -> None:
    app = open_page(**address)
    assert not app.exception
    assert "cannot be followed" in app.warning[0].value
    assert (asked, app.session_state["count"]) == ([], 14)


def test_link_that_cannot_be_followed_writes_no_markdown(open_page: Callable[..., AppTest]) -> None:
    (warning,) = open_page(new="![x](y)").warning
    assert text.plain("![x](y)") in warning.value
    assert "![x](y)" not in warning.value


def test_address_says_which_run_is_on_show(open_page: Callable[..., AppTest], asked: list[RunRequest]) -> None:
    app = open_page(prompt="The sun", temp="0.25")
    assert app.session_state["address"] == {
        "prompt": "The sun", "new": "48", "temp": "0.25", "seed": "0", "top_p": "1", "top_k": "0",
    }  # fmt: skip


def test_link_can_put_a_question(open_page: Callable[..., AppTest], asked: list[RunRequest]) -> None:
    app = open_page(prompt="Add 2 + 3.", chat="true")
    assert [request.chat for request in asked] == [True]
    assert app.session_state["address"]["chat"] == "true"


def test_model_that_answers_is_asked_unless_the_link_says_not_to(
    open_page: Callable[..., AppTest], asked: list[RunRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "answers", lambda: True)
    app = open_page(prompt="Add 2 + 3.")
    assert "chat" not in app.session_state["address"]
    app = open_page(prompt="Add 2 + 3.", chat="false")
    assert app.session_state["address"]["chat"] == "false"
    assert [request.chat for request in asked] == [True, False]
