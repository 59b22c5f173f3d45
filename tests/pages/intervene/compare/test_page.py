"""The Compare page: what it says of two runs, where its sides come from, and what it does with hostile files."""

from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from tests.pages.conftest import said

OpenApp = Callable[..., AppTest]
PAGE = page_path("compare")


def test_no_trace(show_at: OpenApp, recorded: Path) -> None:
    (recorded / "story.safetensors").unlink()
    app = show_at()
    assert not app.exception
    assert "Choose two runs above" in said(app)
