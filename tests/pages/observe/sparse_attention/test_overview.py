from collections.abc import Callable

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


def test_a_model_without_indexer_is_told(open_app: Callable[..., AppTest]) -> None:
    app = open_app().switch_page(PAGE).run()
    assert not app.exception
    assert "reads every earlier token: it has no indexer. Choose a V3.2 model" in said(app)
