"""The recorded experiment: shown at first on the recorded example, and gone once the visitor runs one."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from model.run import counterfactual_file
from model.run.counterfactual import Counterfactual, Question
from model.run.engine import Engine
from model.run.interventions import KnockOut
from model.trace.trace import Trace
from pages.common.menu import page_path
from pages.intervene.counterfactual import example
from tests.pages.conftest import charts, said
from tests.pages.intervene.counterfactual.conftest import press

PAGE = page_path("counterfactual")

Open = Callable[..., AppTest]


@pytest.fixture(scope="module")
def result(real: Engine, trace: Trace) -> Counterfactual:
    """The experiment that the page chooses at first: in layer 1, the heaviest expert of the last token."""
    expert = int(trace.data["expert_id"].sel(moe_layer=1).values[-1, 0])
    found = Counterfactual(Question.about(trace, (KnockOut(1, expert),)))
    for _ in found.run(real, threading.Event()):
        pass
    return found


@pytest.fixture
def first(at: Open, recorded: Path, result: Counterfactual) -> Open:
    """Opens the page with the recorded experiment installed."""
    (recorded / example.FILE).write_bytes(counterfactual_file.dumps(result))
    return at


def test_it_is_shown_first_and_named(first: Open, result: Counterfactual) -> None:
    app = first()
    words = said(app)
    (change,) = result.question.interventions
    assert ":gray-badge[recorded] This is a recorded experiment. Press Run to repeat it here." in words
    assert f"expert {change.expert} of layer 1" in words or f"L1E{change.expert}" in words
    assert f"**{float(result.effect['kl'].mean()):.3g} nats**" in words
    assert len(charts(app)) == 1
    assert "ran" not in app.query_params


@pytest.mark.parametrize("tab", ["Next tokens", "Token by token", "Routing by layer"])
def test_every_tab_shows_it(first: Open, tab: str) -> None:
    app = first(answer=tab)
    assert not app.exception
    assert "Run an experiment" not in said(app)


def test_beside_another_choice_it_says_so(first: Open) -> None:
    words = said(first(layer="2"))
    assert ":gray-badge[recorded] This is another experiment on the same text. Press Run for the one chosen" in words


def test_a_run_of_ones_own_takes_its_place(first: Open) -> None:
    app = press(first())
    assert "gray-badge[recorded] This" not in said(app)
    app.session_state["layer"] = 2
    assert "gray-badge[recorded] This" not in said(app.run())


def test_another_text_does_not_show_it(show_at: Open, first: Open, trace: Trace, real: Engine) -> None:
    from model.run.request import Capture, RunRequest

    other = real.run(RunRequest(prompt="The moon saw the wolf.", max_new_tokens=3, capture=Capture()))
    app = show_at(other)
    assert not app.exception
    assert "gray-badge[recorded] This" not in said(app)
