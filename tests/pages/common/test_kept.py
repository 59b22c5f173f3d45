"""What a reload keeps, for its own tab, once and for a while."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from streamlit.runtime.caching import clear_session_resource_cache
from streamlit.testing.v1 import AppTest

from model.trace.file import dumps
from pages.common import kept, limits
from pages.common.kept import Shelf
from pages.common.runs import Run
from tests.pages.conftest import SESSION, said
from tests.pages.fakes import FakeEngine
from tests.pages.observe.explore.test_drafts import figures
from tests.traces import random_trace

OpenApp = Callable[..., AppTest]


def address_of(app: AppTest) -> dict[str, str]:
    return {name: value if isinstance(value, str) else value[0] for name, value in app.query_params.items()}


def closed(app: AppTest) -> dict[str, str]:
    """Close the tab; return its last address."""
    clear_session_resource_cache(SESSION)
    return address_of(app)


def reloaded(app: AppTest, open_app: OpenApp) -> AppTest:
    return open_app(**closed(app))


def ran(app: AppTest, prompt: str) -> AppTest:
    app.text_area(key="prompt").set_value(prompt)
    return app.button(key="generate").click().run()


def test_run_of_a_long_prompt_is_there_after_a_reload(open_app: OpenApp, engine: FakeEngine) -> None:
    long = "The sun is a star. " * 200
    app = ran(open_app(), long)
    run = app.session_state["run"]
    again = reloaded(app, open_app)
    assert not again.exception
    assert again.session_state["run"] is run
    assert again.text_area(key="prompt").value == long
    assert "not run yet" not in said(again)
    assert len(engine.requests) == 1
    assert figures(reloaded(again, open_app))["Tokens"] == "54"  # and after the next one


def test_opened_file_and_choices_are_there_after_a_reload(open_app: OpenApp) -> None:
    app = open_app()
    content = dumps(random_trace(num_prompt=8, num_new=3))
    app.file_uploader(key="upload").set_value(("trace.safetensors", content, "application/octet-stream")).run()
    app.number_input(key="token").set_value(5).run()
    again = reloaded(app, open_app)
    assert figures(again)["Tokens"] == "11"
    assert again.number_input(key="token").value == 5
    assert "from a file" in said(again)


def test_prompt_that_was_typed_and_not_run_does_not_run_by_a_reload(open_app: OpenApp, engine: FakeEngine) -> None:
    app = ran(open_app(), "The sun")
    app.text_area(key="prompt").set_value("The moon").run()
    again = reloaded(app, open_app)
    assert again.text_area(key="prompt").value == "The moon"
    assert "not run yet" in said(again)
    assert [request.prompt for request in engine.requests] == ["The sun"]


def test_address_that_was_edited_is_followed(open_app: OpenApp, engine: FakeEngine) -> None:
    address = closed(ran(open_app(), "The sun"))
    open_app(**address | {"prompt": "The moon"})
    assert [request.prompt for request in engine.requests] == ["The sun", "The moon"]


def test_key_works_for_one_session_and_not_while_its_tab_is_open(open_app: OpenApp, engine: FakeEngine) -> None:
    app = ran(open_app(), "x" * 3_000)
    address = {kept.KEY: address_of(app)[kept.KEY]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "WAIT_SECONDS", 0.1)
        stranger = open_app(**address)
    assert figures(stranger)["Tokens"] == "14"
    assert "is not kept any more" in stranger.warning[0].value
    assert "is not kept any more" in stranger.run().warning[0].value
    assert not ran(stranger, "The sun").warning
    closed(app)
    again = open_app(**address)
    assert (figures(again)["Tokens"], address_of(again)[kept.KEY]) == ("54", address[kept.KEY])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "WAIT_SECONDS", 0.1)
        assert figures(open_app(**address | {"model": "fake"}))["Tokens"] == "14"
    assert len(engine.requests) == 2


def test_each_session_has_a_key_of_its_own_and_a_visitor_without_a_run_none(open_app: OpenApp) -> None:
    assert kept.KEY not in open_app().query_params
    keys = {address_of(ran(open_app(), "a"))[kept.KEY] for _ in range(2)}
    assert len(keys) == 2
    assert all(len(key) == 32 for key in keys)  # 122 random bits


def test_run_that_the_reload_ended_starts_again(
    open_app: OpenApp, engine: FakeEngine, leaving: Callable[[int], AbstractContextManager[threading.Event]]
) -> None:
    app = open_app()
    with leaving(9):
        ran(app, "x" * 3_000)
    engine.on_step = lambda step, cancel: None
    address = closed(app) | {kept.KEY: app.session_state["kept-key"]}
    assert app.session_state["run"].done.wait(30)
    assert figures(open_app(**address))["Tokens"] == "54"
    assert [len(request.prompt or "") for request in engine.requests] == [3_000, 3_000]


def test_run_that_the_visitor_stopped_stays_as_it_was(open_app: OpenApp, engine: FakeEngine) -> None:
    engine.on_step = lambda step, cancel: cancel.set() if step == 9 and cancel else None
    again = reloaded(ran(open_app(), "The sun"), open_app)
    assert figures(again)["Tokens"] == "9"
    assert "stopped" in said(again)
    assert len(engine.requests) == 1


def a_run() -> Run:
    return Run(1, "opened", trace=random_trace())


def test_states_of_ended_sessions_are_bounded_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, shelf = [1_000.0], Shelf()
    monkeypatch.setattr(kept.time, "monotonic", lambda: now[0])
    shelf.put("a", {"run": a_run()})
    now[0] += 10 * limits.KEPT_SECONDS
    shelf.release("a")  # the tab was open for long
    now[0] += limits.KEPT_SECONDS - 1
    shelf.drop()
    assert shelf.has("a")
    now[0] += 2
    shelf.drop()
    assert not shelf.has("a")


def test_states_of_ended_sessions_are_bounded_in_bytes_and_the_newest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    now, shelf, run = [1_000.0], Shelf(), a_run()
    assert run.trace is not None
    monkeypatch.setattr(kept.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(limits, "KEPT_BYTES", int(2.5 * run.trace.data.nbytes))
    for key in "abcd":
        shelf.put(key, {"run": a_run()})
    for key in "abc":
        now[0] += 1
        shelf.release(key)
    assert [key for key in "abcd" if shelf.has(key)] == ["b", "c", "d"]
    assert shelf.take("d") is None  # its session goes on
    assert shelf.take("c") is not None
    assert shelf.take("c") is None
