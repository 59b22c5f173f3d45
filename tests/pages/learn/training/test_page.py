"""The page on training: a healthy run and those that failed, by their logs."""

from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from tests.pages.conftest import charts

PAGE = page_path("training")


def test_link_says_what_is_drawn(page: Callable[..., AppTest], show_at: Callable[..., AppTest]) -> None:
    app = show_at(view="Held-out text", **{"beside-mini one": "", "heldout-texts": "math.en"})
    first, heldout = charts(app)
    assert [trace["name"] for trace in first["data"]] == ["mini one", "token after the next one", "alarm"]
    assert [trace["name"] for trace in heldout["data"]] == ["math.en"]
