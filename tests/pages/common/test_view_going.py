"""A run that goes on while the visitor reads another page."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from streamlit.runtime.caching import clear_session_resource_cache
from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from tests.pages.conftest import SESSION, said
from tests.pages.fakes import FakeEngine
from tests.pages.observe.explore.test_drafts import figures

Leaving = Callable[[int], AbstractContextManager[threading.Event]]
EXPLORE, ROUTING = page_path("explore"), page_path("routing")


@pytest.fixture
def routing(open_app: Callable[..., AppTest], leaving: Leaving) -> tuple[AppTest, threading.Event]:
    """Routing, opened while a run of Explore waits before its tenth token; the event lets it go on."""
    app = open_app()
    with leaving(9) as go_on:
        app.button(key="generate").click().run()
    return app.switch_page(ROUTING).run(), go_on


def is_going(app: AppTest) -> bool:
    return "going-stop" in [button.key for button in app.button]


def test_another_page_shows_the_run_before_and_then_the_finished_one(
    routing: tuple[AppTest, threading.Event], engine: FakeEngine
) -> None:
    app, go_on = routing
    assert not app.exception
    assert is_going(app)
    assert app.number_input(key="token").max == 14 - 1  # the recorded example
    run = app.session_state["run"]
    assert run.progress[1].startswith("3 of 48 new tokens")
    go_on.set()
    assert run.done.wait(30)
    app.run()
    assert not is_going(app)
    assert app.number_input(key="token").max == 54 - 1
    assert (run.complete, len(engine.requests)) == (True, 1)
    app.switch_page(EXPLORE).run()
    assert figures(app)["Tokens"] == "54"
    assert len(engine.requests) == 1


def test_stop_works_from_any_page_and_twice(routing: tuple[AppTest, threading.Event]) -> None:
    app, _ = routing
    app.button(key="going-stop").click().run()
    run = app.session_state["run"]
    assert run.done.wait(30)
    run.stop()
    app.run()
    assert not is_going(app)
    assert ":orange-badge[stopped]" in said(app)
    assert app.number_input(key="token").max == 9 - 1


def test_back_on_explore_the_lens_follows_the_same_run(
    routing: tuple[AppTest, threading.Event], engine: FakeEngine
) -> None:
    app, go_on = routing
    threading.Timer(0.3, go_on.set).start()
    app.switch_page(EXPLORE).run()
    assert not app.exception
    assert not is_going(app)
    assert figures(app)["Tokens"] == "54"
    assert len(engine.requests) == 1


def test_closed_tab_ends_the_run(routing: tuple[AppTest, threading.Event]) -> None:
    app, _ = routing
    clear_session_resource_cache(SESSION)
    run = app.session_state["run"]
    assert run.done.wait(0.5)
    assert not run.complete
