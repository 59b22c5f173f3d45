"""Runs in their threads: stopped, queued, ended with the tab."""

import time
from collections.abc import Callable

import numpy as np
import pytest
from streamlit.runtime.caching import clear_session_resource_cache
from streamlit.testing.v1 import AppTest

from model.run.turns import Turns
from pages.common import jobs
from pages.common.menu import page_path
from pages.learn.collapse import runs
from pages.learn.collapse.runs import NanoRun
from tests.pages.conftest import SESSION, said
from tests.pages.learn.collapse.conftest import finish

PAGE = page_path("collapse")


def test_closing_the_tab_ends_the_run(show: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "TURNS", Turns(0))
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
    monkeypatch.setattr(jobs, "TURNS", Turns(0))
    app = show()
    app.button(key="train-A").click().run()
    assert "The run begins when its turn comes" in said(app)
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
