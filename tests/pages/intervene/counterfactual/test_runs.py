"""Experiments of a session: run, linked, stopped, cached."""

import dataclasses
import re
import threading
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from model.run.engine import Engine
from model.trace.trace import Trace
from pages.common import limits
from pages.common.menu import page_path
from pages.intervene.counterfactual import runs
from tests.pages.conftest import charts, said
from tests.pages.intervene.counterfactual.conftest import press

PAGE = page_path("counterfactual")

Open = Callable[..., AppTest]


def test_a_link_runs_it_again_and_shows_the_same(at: Open) -> None:
    asked = {"what": "score threshold", "floor": "0.6", "layer": "1", "token": "3"}
    first = press(at(**asked))
    again = at(**asked, ran="yes")
    assert not again.exception
    assert said(again) == said(first)
    assert charts(again) == charts(first)


def test_another_choice_hides_the_result_and_coming_back_shows_it_without_a_run(at: Open) -> None:
    app = press(at(layer="1", expert="3"))
    first = app.session_state["experiments"].copy()
    app.number_input(key="expert").set_value(4).run()
    assert "Press Run" in said(app)
    assert "ran" not in app.query_params
    app.number_input(key="expert").set_value(3).run()
    assert "nats**" in said(app)
    assert app.session_state["experiments"] == first


def test_a_text_too_long_to_compare_is_refused(at: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EXPERIMENT_LOGITS", 320 * 10)
    assert "is too long to compare; at most 10 are" in press(at()).error[0].value


def test_a_trace_of_other_weights_is_refused(at: Open, show_at: Open, trace: Trace) -> None:
    other = dataclasses.replace(trace, model=dict(trace.model) | {"weights_sha256": "0" * 64})
    assert "is not available here with the same weights" in press(show_at(other)).error[0].value


def test_stop_keeps_what_was_done(at: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    from model.run import counterfactual

    run = counterfactual.Counterfactual.run

    def stopped(self: counterfactual.Counterfactual, engine: Engine, cancel: threading.Event):
        for stage in run(self, engine, cancel):
            if "control 3" in stage.doing:
                cancel.set()
                cancel.set()  # again is harmless
            yield stage

    monkeypatch.setattr(counterfactual.Counterfactual, "run", stopped)
    app = press(at())
    assert re.search(r"Stopped: 2 of \d+ control runs were done\.", said(app))
    assert "nats**" in said(app)


def test_one_session_does_not_see_anothers_experiments(at: Open) -> None:
    press(at(layer="1", expert="3"))
    other = at(layer="1", expert="3")
    assert "Press Run" in said(other)
    assert runs.RAN not in other.query_params
