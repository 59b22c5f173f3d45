from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from pages.observe.tokens.tabs import SIZES
from tests.pages.conftest import charts
from tests.traces import spelling

OpenApp = Callable[..., AppTest]


PAGE = page_path("tokens")


@pytest.mark.parametrize(
    ("part", "note"), [("all", "n = 3 tokens, mean 2 bytes"), ("generated", "n = 2 tokens, mean 1 bytes")]
)
def test_bytes_per_token_follow_the_switches(show_at: OpenApp, part: str, note: str) -> None:
    (figure,) = charts(show_at(spelling(b"Once", b"a", b"b", generated_from=2), of=SIZES, tokens=part))
    assert figure["layout"]["annotations"][0]["text"] == note


def test_no_token_of_the_kind_is_said_kindly(show_at: OpenApp) -> None:
    app = show_at(spelling(b"Once"), of=SIZES, tokens="generated")
    assert charts(app) == []
    assert "No token of this kind has text" in app.info[0].value
