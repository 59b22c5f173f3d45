"""The page on the architecture: any model in use, the released ones, and a run painted on the one it is of."""

from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from tests.pages.conftest import charts, said
from tests.pages.learn.architecture.conftest import notes

OpenApp = Callable[..., AppTest]
PAGE = page_path("architecture")


def test_model_in_use_with_the_run_that_is_on_show(show: OpenApp) -> None:
    app = show()
    (figure,) = charts(app)
    assert "**tiny**:" in said(app)
    assert "residual norm" in notes(figure)
    assert any("× uniform" in str(text) for trace in figure["data"] for text in trace.get("text", []))
    assert app.selectbox(key="part").value == "moe-experts"
    assert app.selectbox(key="layer").options == ["1", "2"]
