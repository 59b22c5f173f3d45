"""The settings of both sides."""

from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from model.train.demo import nano
from pages.common.menu import page_path
from pages.learn.collapse import runs
from pages.learn.collapse.runs import STRENGTHS

PAGE = page_path("collapse")


def test_choices_are_those_of_the_nano_model() -> None:
    assert set(STRENGTHS) == set(nano.METHODS)
    assert runs.STEPS == nano.STEPS
    assert nano.Nano().shape.top_k == runs.TOP_K
    assert all(first in choices for choices, first in STRENGTHS.values())


def test_link_restores_the_settings_of_a_side(show_at: Callable[..., AppTest]) -> None:
    app = show_at(**{"method-A": "loss", "strength-A-loss": "0.03", "softmax-A": "true", "groups-B": "false"})
    assert not app.exception
    assert app.select_slider(key="strength-A-loss").value == 0.03
    toggles = {name: app.toggle(key=name).value for name in ("softmax-A", "softmax-B", "groups-A", "groups-B")}
    assert toggles == {"softmax-A": True, "softmax-B": False, "groups-A": True, "groups-B": False}
