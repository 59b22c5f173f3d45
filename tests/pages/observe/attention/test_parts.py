import doctest
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from pages.observe.attention import parts
from tests.pages.conftest import charts, said

PAGE = page_path("attention")


def test_parts_need_the_layers_inputs(show: Callable[..., AppTest]) -> None:
    assert "--capture inputs" in said(show(tab="Content and position"))


@pytest.mark.parametrize("num_tokens", [1, 2, 40])
def test_parts_of_the_score_and_the_cache(computed: Callable[..., AppTest], num_tokens: int) -> None:
    app = computed(num_tokens, tab="Content and position", head=1)
    shown = charts(app)[-4:]
    assert [figure["data"][0]["type"] for figure in shown] == ["heatmap", "heatmap", "scatter", "bar"]
    assert [trace["name"] for trace in shown[2]["data"][:3]] == ["each head", "mean of heads", "head 1"]
    assert "MLA" in said(app)


def test_bytes_in_units() -> None:
    assert doctest.testmod(parts) == (0, 1)
