"""The tabs of an experiment, opened by the address."""

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from pages.intervene.counterfactual.tabs import IMPORTANCE, LAYERS, NEXT, TABS, TOKENS
from tests.pages.conftest import charts, said

PAGE = page_path("counterfactual")
FIGURES = {NEXT: 1, TOKENS: 3, LAYERS: 3, IMPORTANCE: 1}  # with that of the control above the tabs


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_shows_its_figures(at: Callable[..., AppTest], tab: str) -> None:
    app = at(layer="1", expert="3", answer=tab, ran="yes")
    assert len(charts(app)) == FIGURES[tab]


@pytest.mark.parametrize("tab", [NEXT, TOKENS, LAYERS])
def test_tabs_ask_for_an_experiment_first(at: Callable[..., AppTest], tab: str) -> None:
    assert "Run an experiment to fill this tab." in said(at(answer=tab))
