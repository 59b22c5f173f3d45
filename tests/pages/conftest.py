"""The app with a fake engine and a recorded example of its own."""

import base64
import contextlib
import functools
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from model.trace.file import save
from model.trace.trace import Trace
from pages.common import examples, jobs, models, session
from tests.pages.fakes import FakeEngine
from tests.traces import random_trace

assert examples.PROMPTS  # read once, from the real folder
# Every `AppTest` looks for components in all installed packages, which takes longer than most tests.
manifest_scanner.scan_component_manifests = functools.cache(manifest_scanner.scan_component_manifests)
SESSION = "test session id"  # of every `AppTest`; to clear its caches is to close the tab
APP = Path(__file__).parent.parent.parent / "app.py"
SMALLEST_PX = 12


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeEngine:
    fake = FakeEngine()
    monkeypatch.setattr(models, "load", lambda folder, job=None: fake)
    monkeypatch.setattr(models, "available", lambda: {"fake": tmp_path})
    monkeypatch.setattr(models, "warm", lambda folder: None)
    return fake


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "recorded"
    folder.mkdir()
    save(random_trace(seed=9, num_prompt=5, num_new=9), folder / "story.safetensors")
    monkeypatch.setattr(session, "RECORDED", folder)
    st.cache_resource.clear()
    st.cache_data.clear()
    return folder


@pytest.fixture
def open_app(engine: FakeEngine, recorded: Path) -> Callable[..., AppTest]:
    """Opens the app at an address and runs it once."""

    def opened(**address: str) -> AppTest:
        app = AppTest.from_file(str(APP), default_timeout=30)
        for name, value in address.items():
            app.query_params[name] = value
        return app.run()

    return opened


@pytest.fixture
def leaving(engine: FakeEngine) -> Callable[[int], contextlib.AbstractContextManager[threading.Event]]:
    """Returns a context in which scripts end in mid-run, as for a visitor who leaves the page.

    The run waits before a step of this number until it is stopped or the event is set.
    """

    @contextlib.contextmanager
    def left(at: int) -> Iterator[threading.Event]:
        reached, go_on = threading.Event(), threading.Event()

        def pause(step: int, cancel: threading.Event | None) -> None:
            if step == at and cancel is not None:
                reached.set()
                while not (cancel.is_set() or go_on.wait(0.01)):
                    pass

        def leave(*_: object) -> None:
            assert reached.wait(30)
            st.stop()

        engine.on_step = pause
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jobs, "follow", leave)
            yield go_on

    return left


@pytest.fixture
def show(request: pytest.FixtureRequest, open_app: Callable[..., AppTest], recorded: Path) -> Callable[..., AppTest]:
    """Opens the test module's `PAGE` on a trace of its own, or on the recorded one, and makes choices there."""

    def shown(trace: Trace | None = None, **chosen: object) -> AppTest:
        if trace is not None:
            save(trace, recorded / "story.safetensors")
        app = open_app().switch_page(request.module.PAGE).run()
        for name, value in chosen.items():
            app.session_state[name] = value
        return app.run() if chosen else app

    return shown


@pytest.fixture
def show_at(request: pytest.FixtureRequest, open_app: Callable[..., AppTest], recorded: Path) -> Callable[..., AppTest]:
    """Opens the test module's `PAGE` as `show` does, with choices from the address."""

    def shown(trace: Trace | None = None, **address: str) -> AppTest:
        if trace is not None:
            save(trace, recorded / "story.safetensors")
        app = open_app(**address).switch_page(request.module.PAGE)
        for name, value in address.items():
            app.query_params[name] = value
        return app.run()

    return shown


def charts(app: AppTest) -> list[dict[str, Any]]:
    """The figures of a page, as Plotly gets them. No type in them is smaller than 12 pixels."""
    assert not app.exception
    figures = [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]
    assert all(min(type_sizes(figure)) >= SMALLEST_PX for figure in figures)
    return figures


def type_sizes(figure: dict[str, Any]) -> list[float]:
    """Return the sizes in pixels of all fonts of a figure, and those that the markup of its texts states.

    Without its title, the note that only saved files show.
    """
    layout = {name: part for name, part in figure["layout"].items() if name != "title"}
    return _type_sizes(figure["data"]) + _type_sizes(layout)


def _type_sizes(part: object) -> list[float]:
    if isinstance(part, str):
        return [float(size) for size in re.findall(r"font-size:([\d.]+)px", part)]
    if isinstance(part, list):
        return [size for entry in part for size in _type_sizes(entry)]
    if not isinstance(part, dict):
        return []
    own = [
        size
        for name, value in part.items()
        if name.endswith("font") and isinstance(value, dict) and "size" in value
        for size in np.ravel(numbers(value["size"]))
    ]
    return own + [size for name, value in part.items() for size in _type_sizes(value)]


def numbers(values: Any) -> np.ndarray:
    """An array of a chart, which Plotly sends as a list or in base64."""
    if not isinstance(values, dict):
        return np.array(values)
    array = np.frombuffer(base64.b64decode(values["bdata"]), np.dtype(values["dtype"]))
    return array.reshape([int(size) for size in values["shape"].split(",")]) if "shape" in values else array


def said(app: AppTest) -> str:
    """Return all texts of a page, joined."""
    return " ".join(element.value for element in [*app.markdown, *app.error, *app.info, *app.caption])
