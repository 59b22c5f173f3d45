"""Two runs side by side, while they train and after."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from pages.learn.collapse import runs
from tests.pages.conftest import charts, said
from tests.pages.learn.collapse.conftest import finish

PAGE = page_path("collapse")


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


# --- the recorded runs ----------------------------------------------------------------------------------------------


def line(step: int, loads: list[int], **more: object) -> dict[str, object]:
    return {"step": step, "loss": 2.5, "load": {"1": loads, "2": [2, 2, 2, 2]}} | more


@pytest.fixture
def with_recorded(recorded: Path) -> None:
    """Of 4 tokens in each step, each with 2 experts: in A all choose expert 0, and none chooses expert 3."""
    settings = {"method": "nothing", "strength": 0.0, "softmax": False, "limit_groups": True}
    a = {"settings": settings, "lines": [line(1, [4, 3, 1, 0]), line(2, [4, 2, 2, 0], alarms=["collapse in L1"])]}
    b = {"settings": settings | {"method": "bias", "strength": 0.02}, "lines": [line(1, [2, 2, 2, 2])]}
    (recorded / runs.FILE).write_bytes(gzip.compress(json.dumps({"A": a, "B": b}).encode()))


def test_recorded_runs_are_shown_first_with_a_verdict(show: Callable[..., AppTest], with_recorded: None) -> None:
    app = show()
    assert [trace["name"] for trace in charts(app)[0]["data"]] == ["A: nothing", "B: bias 0.02"]
    words = said(app)
    assert (
        "**A, nothing: collapsed.** Its busiest expert gets 100% of the tokens (2 times a fair share), 1 of 8 "
        "experts is idle; loss 2.5 nats per byte."
    ) in words
    assert (
        "**B, bias 0.02: did not collapse.** Its busiest expert gets 50% of the tokens (1 times a fair share), 0 of "
        "8 experts are idle"
    ) in words
    assert "**A**: nothing :gray-badge[recorded]" in words
    assert "step 2, collapse in L1" in words


def test_a_run_of_ones_own_takes_the_place_of_the_recorded_one(
    show: Callable[..., AppTest], short: None, with_recorded: None
) -> None:
    app = show()
    app.button(key="train-A").click().run()
    app = finish(app)
    words = said(app)
    assert "**A**: nothing :gray-badge" not in words
    assert "**B**: bias 0.02 :gray-badge[recorded]" in words
    assert "**A, nothing: " in words
    assert [metric.value for metric in app.metric if metric.label.startswith("Step")] == ["30", "1"]
