"""Two runs side by side, while they train and after."""

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
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
