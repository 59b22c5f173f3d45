from collections.abc import Callable
from typing import TYPE_CHECKING

from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from tests.pages.conftest import charts, said
from tests.pages.observe.attention.test_tabs import without
from tests.traces import random_trace

OpenApp = Callable[..., AppTest]
if TYPE_CHECKING:
    pass

PAGE = page_path("attention")


def test_first_screen_shows_a_head_of_the_recorded_run(show: Callable[..., AppTest]) -> None:
    app = show()
    assert len(charts(app)) == 4
    assert ":gray-badge[recorded]" in said(app)
    assert "layer 1, head 0: measured, n = 14 tokens" in charts(app)[0]["layout"]["annotations"][0]["text"]
    assert app.selectbox(key="layer").options == ["0", "1", "2"]


def test_choices_are_kept(show: Callable[..., AppTest]) -> None:
    app = show(layer=2, head=1, token=4)
    assert "layer 2, head 1" in charts(app)[0]["layout"]["annotations"][0]["text"]
    assert "Token 4: measured, n = 5 tokens" in said(app)


def test_without_attention_says_what_to_record(show: Callable[..., AppTest]) -> None:
    app = show(without(random_trace(), "attention", "attention_layer", "head"))
    assert charts(app) == []
    assert "--capture attention" in said(app)
