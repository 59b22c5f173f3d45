"""The Sparse attention page on a real tiny V3.2 model, and what it says of other models."""

import re
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from tests.pages.conftest import charts

PAGE = page_path("sparse_attention")


def test_recall_is_painted_on_the_architecture(sparse_app: Callable[..., AppTest]) -> None:
    app = sparse_app(layer=2).switch_page(page_path("architecture")).run()
    (bar,) = [t for t in charts(app)[0]["data"] if "kept keys hold" in str(t.get("text"))]
    held = float(re.search(r"hold ([\d.]+)%", bar["text"][0])[1]) / 100
    app = app.switch_page(PAGE).run()
    app.session_state["part"] = "All layers"
    table = next(frame.value for frame in app.run().dataframe if "recall" in frame.value)
    assert held == pytest.approx(table[table["layer"] == 2]["recall"].mean(), abs=6e-4)
