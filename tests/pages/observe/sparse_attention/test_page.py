"""The Sparse attention page on a real tiny V3.2 model, and what it says of other models."""

import re
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from tests.pages.conftest import charts, said

PAGE = page_path("sparse_attention")


def test_says_what_the_newest_token_kept(sparse_app: Callable[..., AppTest]) -> None:
    app = sparse_app()
    assert len(charts(app)) == 2
    assert "Token 15 keeps **6 of 16** keys" in said(app)
    assert app.slider(key="kept").value == 6


def test_first_tokens_keep_everything(sparse_app: Callable[..., AppTest]) -> None:
    assert "Token 3 sees 4 tokens, itself included, and keeps them all" in said(sparse_app(token=3))


def test_another_number_of_keys_chooses_anew(sparse_app: Callable[..., AppTest]) -> None:
    assert "Token 15 keeps **3 of 16** keys" in said(sparse_app(kept=3))


@pytest.mark.parametrize(("part", "text"), [("Left out", "10 keys with"), ("Cost", "Multiply-adds of the same token")])
def test_tabs_in_words(sparse_app: Callable[..., AppTest], part: str, text: str) -> None:
    app = sparse_app(part=part)
    charts(app)
    assert text in said(app)


@pytest.mark.parametrize("part", ["Over the text", "All layers"])
def test_tabs_with_a_figure(sparse_app: Callable[..., AppTest], part: str) -> None:
    assert len(charts(sparse_app(part=part, layer=2))) == 3


def test_a_model_without_indexer_is_told(open_app: Callable[..., AppTest]) -> None:
    app = open_app().switch_page(PAGE).run()
    assert not app.exception
    assert "attends to every earlier token: it has no indexer" in said(app)


def test_recall_is_painted_on_the_architecture(sparse_app: Callable[..., AppTest]) -> None:
    app = sparse_app(layer=2).switch_page(page_path("architecture")).run()
    (bar,) = [t for t in charts(app)[0]["data"] if "kept keys hold" in str(t.get("text"))]
    held = float(re.search(r"hold ([\d.]+)%", bar["text"][0])[1]) / 100
    app = app.switch_page(PAGE).run()
    app.session_state["part"] = "All layers"
    table = next(frame.value for frame in app.run().dataframe if "recall" in frame.value)
    assert held == pytest.approx(table[table["layer"] == 2]["recall"].mean(), abs=6e-4)
