"""The page on collapse: two small runs on the spot, side by side, that can be stopped."""

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from streamlit.runtime.caching import clear_session_resource_cache
from streamlit.testing.v1 import AppTest

from model.train.demo import nano
from pages.common import jobs
from pages.common.menu import page_path
from pages.learn.collapse import runs
from pages.learn.collapse.runs import STRENGTHS, NanoRun
from tests.pages.conftest import SESSION, charts, said

PAGE = page_path("collapse")


def test_choices_are_those_of_the_nano_model() -> None:
    assert set(STRENGTHS) == set(nano.METHODS)
    assert runs.STEPS == nano.STEPS
    assert all(first in choices for choices, first in STRENGTHS.values())


def test_link_restores_the_settings_of_a_side(show_at: Callable[..., AppTest]) -> None:
    app = show_at(**{"method-A": "loss", "strength-A-loss": "0.03", "softmax-A": "true", "groups-B": "false"})
    assert not app.exception
    assert app.select_slider(key="strength-A-loss").value == 0.03
    toggles = {name: app.toggle(key=name).value for name in ("softmax-A", "softmax-B", "groups-A", "groups-B")}
    assert toggles == {"softmax-A": True, "softmax-B": False, "groups-A": True, "groups-B": False}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "STEPS", 30)


def finish(app: AppTest) -> AppTest:
    for run in app.session_state["nano-runs"].values():
        assert run.done.wait(60)
    return app.run()


def test_two_runs_side_by_side(show: Callable[..., AppTest], short: None) -> None:
    app = show()
    assert "Press Train on one side or both" in said(app)
    app.button(key="train-A").click().run()
    app.button(key="train-B").click().run()
    app = finish(app)
    assert not app.exception
    figures = charts(app)
    assert [trace["name"] for trace in figures[0]["data"]] == ["A: nothing", "B: bias 0.02"]
    assert len(figures) == 1 + 2 * 2
    assert [metric.value for metric in app.metric if metric.label.startswith("Step")] == ["30", "30"]
    first = [run.loss().values[0] for run in app.session_state["nano-runs"].values()]
    assert first[0] == pytest.approx(first[1], abs=1e-5)


def test_closing_the_tab_ends_the_run(show: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "TURNS", threading.Semaphore(0))
    app = show()
    app.button(key="train-A").click().run()
    run: NanoRun = app.session_state["nano-runs"]["A"]
    assert run.waiting
    clear_session_resource_cache(SESSION)
    assert run.done.wait(30)


def test_stop_keeps_what_was_done(show: Callable[..., AppTest]) -> None:
    app = show()
    app.button(key="train-A").click().run()
    run: NanoRun = app.session_state["nano-runs"]["A"]
    end = time.monotonic() + 60
    while len(run.lines) < 3 and time.monotonic() < end:
        time.sleep(0.05)
    app.button(key="stop-A").click().run()
    app = finish(app)
    done = len(run.lines)
    assert 3 <= done < runs.STEPS
    assert next(metric for metric in app.metric if metric.label == "Step (stopped)").value == str(done)
    run.cancel.set()  # a second Stop is harmless
    assert len(run.lines) == done


def test_run_waits_for_its_turn_among_all_that_visitors_run(
    show: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "TURNS", threading.Semaphore(0))
    app = show()
    app.button(key="train-A").click().run()
    assert "It begins when its turn comes" in said(app)
    assert app.button(key="train-A").disabled
    app.button(key="stop-A").click().run()
    assert "Run A ended: it was stopped before its turn came" in said(finish(app))


def test_what_is_computed_of_a_run() -> None:
    run = NanoRun({"method": "loss", "strength": 0.01, "softmax": True, "limit_groups": False})
    assert run.name == "loss 0.01, softmax, no groups"
    run.lines = [{"step": step + 1, "loss": 4.0 - step, "load": {"1": [3, 1]}, **({"alarms": ["x"]} if step else {})}
                 for step in range(2)]  # fmt: skip
    assert run.loss().values.tolist() == [4.0, 3.5]
    assert run.load().values.tolist() == [[[1.5, 0.5]]]
    assert run.alarms() == [(2, "x")]
    many = NanoRun(run.settings, [{"step": step + 1, "loss": float(step), "load": {"1": [1, 1]}} for step in range(60)])
    assert many.loss().values[-1] == pytest.approx(np.mean(range(35, 60)))
    assert many.load()["step"].values.tolist() == [25, 50, 60]
