"""The figure and the parts."""

import json
import tomllib
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from model.trace.router_rule import SIGMOID, SOFTMAX
from pages.common.menu import page_path
from pages.learn.architecture import catalogue
from pages.learn.architecture.drawing import SHORT
from pages.learn.architecture.overview import TEXT, text_of
from tests.pages.conftest import charts
from viz.theme import LIGHT

OpenApp = Callable[..., AppTest]

PAGE = page_path("architecture")

SPARSE = {"model_type": "deepseek_v32", "index_heads": 2, "index_head_dim": 16, "index_topk": 8}


@pytest.mark.parametrize("of", ["tiny (in use)", "DeepSeek-V3.2"])
def test_every_part_can_be_looked_at(show: OpenApp, of: str) -> None:
    app = show(of=of)
    options, seen = app.selectbox(key="part").options, set()
    for number in range(len(options)):
        app.selectbox(key="part").select_index(number).run()
        (figure,) = charts(app)
        assert app.latex
        outlined = [shape for shape in figure["layout"]["shapes"] if shape["line"]["color"] == LIGHT.ink]
        seen.add(json.dumps(outlined))
        assert len(outlined) == 1
    assert len(seen) == len(options)


def take_click() -> None:
    """A script that does what a click on the picture does."""
    import streamlit as st

    from pages.learn.architecture.overview import take_click

    st.session_state["architecture"] = st.session_state["clicked"]
    take_click()


def test_click_chooses_part_layer_and_expert() -> None:
    clicked = AppTest.from_function(take_click)
    clicked.session_state["clicked"] = {"selection": {"points": [{"customdata": ["moe-gate", -1, -1]}]}}
    clicked.run()
    assert not clicked.exception
    assert clicked.session_state["part"] == "moe-gate"
    assert "layer" not in clicked.session_state
    clicked.session_state["clicked"] = {"selection": {"points": [{"customdata": {"0": "moe-experts", "1": 2, "2": 7}}]}}
    clicked.run()
    assert [clicked.session_state[name] for name in ("part", "layer", "expert")] == ["moe-experts", 2, 7]


def test_sparse_model_shows_its_indexer(show: OpenApp) -> None:
    app = show(changes=SPARSE)
    assert "moe indexer" in app.selectbox(key="part").options


@pytest.mark.parametrize("name", catalogue.TITLES)
def test_every_part_of_a_released_model_has_its_words(name: str) -> None:
    for part in catalogue.load(name).parts.all:
        assert text_of(part)["says"]


def test_every_kind_of_part_has_its_words() -> None:
    texts = tomllib.loads(TEXT.read_text(encoding="utf-8"))
    routers = {f"gate-{scoring}" for scoring in (SIGMOID, SOFTMAX)}
    assert {*SHORT, *routers} - {"gate"} <= set(texts)
    for text in texts.values():
        assert text["title"]
        assert text["formulas"]
        assert "report" in text["source"]
