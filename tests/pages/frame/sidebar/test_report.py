"""The report in the sidebar: made on a press, of what is on show."""

from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from model.trace.attention import ALL_HEADS
from pages.frame.sidebar import report as offered
from tests.traces import random_trace


@pytest.fixture
def button(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    drawn: dict[str, Any] = {}
    real = offered.st.download_button

    def draw(label: str, **options: Any) -> bool:
        if label == "Save a report":
            drawn.update(options)
        return real(label, **options)

    monkeypatch.setattr(offered.st, "download_button", draw)
    return drawn


def test_the_report_shows_what_is_on_show(open_app: Callable[..., AppTest], button: dict[str, Any]) -> None:
    app = open_app(layer="2", token="4", head="1")
    assert not app.exception
    html = button["data"]().decode()
    assert "Routing in layer 2" in html
    assert "One token: 4" in html
    assert "Attention of head 1 in layer 2" in html
    assert button["file_name"].startswith("fake-once") or "report-L2" in button["file_name"]
    assert "layer 2, token 4, head 1" in " ".join(caption.value for caption in app.sidebar.caption)
    app.toggle(key="report-without-text").set_value(True).run()
    assert "without the text" in button["data"]().decode()
    assert "once" not in button["file_name"].lower()


def test_choices_that_the_trace_lacks_are_left_to_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offered.st, "session_state", {"layer": 9, "token": 400, "head": ALL_HEADS})
    choice = offered.choice_on_show(random_trace(), with_text=True)
    assert (choice.layer, choice.token, choice.head) == (1, 9, ALL_HEADS)


def test_nothing_is_made_before_the_press(open_app: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offered, "report", lambda *_: pytest.fail("made without a press"))
    assert not open_app().exception
