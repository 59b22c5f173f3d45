import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from hypothesis import given, strategies
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from model.run.request import FIELDS, RunRequest
from pages.common import controls, examples, models, prompt, session, text
from tests.pages.conftest import APP, said
from tests.pages.fakes import FakeEngine
from tests.requests import other_value, values


@pytest.fixture
def asked(engine: FakeEngine) -> list[RunRequest]:
    """The requests that were run."""
    return engine.requests


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
    address = {"prompt": "The sun", "new": "48", "temp": "0.25", "seed": "0", "top_p": "1", "top_k": "0"}
    numbers = {
        field.key: field.write(session.first_value(field)) for field in FIELDS.values() if field.kind is not bool
    }
    assert app.session_state["address"] == numbers | address  # switches with their default are left out


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


@given(strategies.fixed_dictionaries({name: values(field) for name, field in FIELDS.items()}))
def test_address_of_a_request_gives_the_request_again(fields: dict[str, Any]) -> None:
    request = RunRequest(**fields, capture=session.PAGE_CAPTURE)
    for answers in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(models, "answers", lambda answers=answers: answers)
            assert session.request_from(prompt.address_of(request)) == request


def test_link_sets_every_field_and_the_address_keeps_it(
    open_page: Callable[..., AppTest], asked: list[RunRequest]
) -> None:
    others = {field: other_value(field) for field in FIELDS.values()}
    address = {field.key: field.write(value) for field, value in others.items()}
    app = open_page(**address)
    (request,) = asked
    assert {field: getattr(request, field.name) for field in others} == others
    assert {field: app.session_state[field.key] for field in others} == others
    assert app.session_state["address"] == address


@pytest.mark.parametrize("name", FIELDS)
def test_link_with_one_field_alone_starts_a_run(
    open_page: Callable[..., AppTest], asked: list[RunRequest], name: str
) -> None:
    open_page(**{FIELDS[name].key: FIELDS[name].write(other_value(FIELDS[name]))})
    assert [getattr(request, name) for request in asked] == [other_value(FIELDS[name])]


def test_choices_that_are_carried_to_other_pages_include_every_field() -> None:
    assert {field.key for field in FIELDS.values()} <= set(controls.KEPT)


def test_another_page_keeps_what_every_widget_says(open_app: Callable[..., AppTest]) -> None:
    app, others = open_app(), {field: other_value(field) for field in FIELDS.values()}
    for field, value in others.items():
        widgets = {str: app.text_area, bool: app.toggle}.get(field.kind, app.number_input)
        widgets(key=field.key).set_value(value)
    app.run().switch_page("pages/observe/routing/page.py").run().run()
    assert not app.exception
    assert {field: app.session_state[field.key] for field in others} == others
    app.switch_page("pages/observe/explore/page.py").run()
    assert app.toggle(key="chat").value
    app.button(key="generate").click().run()
    request = app.session_state["run"].request
    assert {field: getattr(request, field.name) for field in others} == others


def test_link_whose_run_is_refused_says_so_once(open_page: Callable[..., AppTest], asked: list[RunRequest]) -> None:
    app = open_page(prompt="\ufffd")
    assert "cannot be followed: the prompt cannot be encoded" in app.warning[0].value
    assert (asked, app.session_state["count"]) == ([], 14)
    assert not app.run().warning


def test_link_is_run_once_for_all_who_follow_it(open_page: Callable[..., AppTest], asked: list[RunRequest]) -> None:
    for _ in range(2):
        assert open_page(prompt="The sun", new="3").session_state["count"] == 9
    assert len(asked) == 1


@pytest.fixture
def open_routing(engine: FakeEngine, recorded: object) -> Callable[..., AppTest]:
    """Opens a link that leads straight to the Routing page."""

    def opened(**address: str) -> AppTest:
        app = AppTest.from_file(str(APP), default_timeout=30)
        app._page_hash = calc_hash("routing")  # before the first run `switch_page` only knows a page by its file's name
        for name, value in address.items():
            app.query_params[name] = value
        return app.run()

    return opened


def test_stop_ends_the_run_of_a_link_to_routing(
    open_routing: Callable[..., AppTest],
    asked: list[RunRequest],
    leaving: Callable[[int], AbstractContextManager[threading.Event]],
) -> None:
    with leaving(10):
        app = open_routing(prompt="The sun", new="8")
    assert not app.exception
    assert [button.key for button in app.button if button.label == "Stop"] == ["link-stop"]
    app.button(key="link-stop").click().run()
    assert not app.exception
    assert "link-stop" not in [button.key for button in app.button]
    assert ":orange-badge[stopped]" in said(app)
    assert app.number_input(key="token").max == 6 + 4 - 1
    assert "stopped" in said(app.run())
    assert len(asked) == 1


def test_run_of_a_link_that_is_stopped_between_steps_is_shown_as_stopped(
    open_routing: Callable[..., AppTest], engine: FakeEngine
) -> None:
    engine.on_step = lambda step, cancel: (cancel.set(), cancel.set()) if step == 9 and cancel else None
    app = open_routing(prompt="The sun", new="8")
    assert not app.exception
    assert ":orange-badge[stopped]" in said(app)
    assert app.number_input(key="token").max == 8


def test_first_link_after_the_start_closes_the_notice_after_its_run_too(open_routing: Callable[..., AppTest]) -> None:
    first, second = (open_routing(prompt="The sun", new="2") for _ in range(2))
    sent = [["Page not found" in element.proto.body for element in app.get("html")] for app in (first, second)]
    assert [any(of_session) for of_session in sent] == [True, False]


def test_page_after_the_run_of_a_link_keeps_the_address(open_app: Callable[..., AppTest]) -> None:
    """Right after the switch the address still belongs to the widgets of Explore, which the mirror must not touch."""
    app = open_app(prompt="The sun", new="24", temp="0").switch_page("pages/observe/routing/page.py").run().run()
    assert not app.exception
    assert {"prompt": "The sun", "new": "24", "temp": "0"}.items() <= app.query_params.items()
