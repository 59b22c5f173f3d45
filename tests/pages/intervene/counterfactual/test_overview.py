"""What stands above the tabs."""

from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from model.trace.trace import Trace
from pages.common.menu import page_path
from pages.intervene.counterfactual import overview
from tests.pages.intervene.counterfactual.conftest import press

PAGE = page_path("counterfactual")

Open = Callable[..., AppTest]


def test_the_strip_has_a_chip_for_every_token_and_colours_by_what_is_chosen(at: Open, trace: Trace) -> None:
    app = press(at(layer="1"))
    (strip,) = (element.proto.body for element in app.get("html") if "effects legend" in element.proto.body)
    assert strip.count('<span class="chip') == trace.num_tokens
    app.session_state["shade"] = overview.KL
    app.run()
    assert not app.exception
    (other,) = (element.proto.body for element in app.get("html") if "effects legend" in element.proto.body)
    assert ">0<span" in other  # KL is never below 0
