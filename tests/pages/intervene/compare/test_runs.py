"""The new run of side B: stopped, run again, made once."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from model.run.abilities import Abilities
from model.run.request import RequestError
from pages.common.menu import page_path
from pages.intervene.compare import runs
from tests.pages.conftest import said
from tests.pages.fakes import FakeEngine

OpenApp = Callable[..., AppTest]
FROM_DISK = Abilities(new_tokens=False, exclusive=True)

PAGE = page_path("compare")


def test_stop_ends_the_run_of_b_and_it_can_be_run_again(
    show_at: OpenApp, engine: FakeEngine, leaving: Callable[[int], AbstractContextManager[threading.Event]]
) -> None:
    engine.abilities = FROM_DISK
    with leaving(2):
        app = show_at(dtype="float32")
    assert not app.button(key="stop-b").disabled
    app.button(key="stop-b").click().run()
    assert "Stopped after 2 of 3 layers" in said(app)
    assert app.button(key="stop-b").disabled
    engine.on_step = lambda layer, cancel: (cancel.set(), cancel.set()) if layer == 1 and cancel else None
    app.button(key="run-b").click().run()
    assert "Stopped after 1 of 3 layers" in said(app)
    engine.on_step = lambda layer, cancel: None
    app.button(key="run-b").click().run()
    assert not app.exception
    assert not app.error
    assert "run-b" not in [button.key for button in app.button]
    assert len(engine.requests) == 3


def test_run_of_b_is_made_once_for_all_who_ask_the_same(show_at: OpenApp, engine: FakeEngine) -> None:
    for _ in range(2):
        app = show_at(dtype="float32")
        assert not app.exception
        assert not app.error
    assert len(engine.requests) == 1


def test_model_from_the_disk_is_run_in_float32_only(engine: FakeEngine, tmp_path: Path) -> None:
    engine.abilities = FROM_DISK
    with pytest.raises(RequestError, match="run in float32 only"):
        runs.finder(tmp_path, "bfloat16")()
    assert runs.finder(tmp_path, "float32")() is engine
