from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from tests.pages.conftest import charts, said


@pytest.mark.parametrize(("part", "text"), [("Left out", "10 keys with"), ("Cost", "Multiply-adds of the same token")])
def test_tabs_in_words(sparse_app: Callable[..., AppTest], part: str, text: str) -> None:
    app = sparse_app(part=part)
    charts(app)
    assert text in said(app)


@pytest.mark.parametrize("part", ["Over the text", "All layers"])
def test_tabs_with_a_figure(sparse_app: Callable[..., AppTest], part: str) -> None:
    assert len(charts(sparse_app(part=part, layer=2))) == 3
