from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from pages.observe.routing.tabs import DECISION, EXPERT, TOGETHER
from tests.pages.conftest import charts
from tests.traces import random_trace

PAGE = page_path("routing")


def test_last_layer_shows_how_it_was_reached(show: Callable[..., AppTest]) -> None:
    onward = charts(show(part=TOGETHER, layer=2))[2]
    assert onward["layout"]["yaxis"]["title"]["text"] == "expert, L1"


@pytest.mark.parametrize("part", [DECISION, TOGETHER, EXPERT])
def test_model_with_one_mixture_layer(show: Callable[..., AppTest], part: str) -> None:
    app = show(random_trace(num_layers=2), part=part)
    assert not app.exception
