"""The doctor's page: the weights by themselves, texts at a button, findings with links, files without texts."""

from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

from pages.audit.doctor import runs
from pages.common.menu import page_path
from tests.pages.audit.doctor.conftest import finished
from tests.pages.conftest import charts, said

PAGE = page_path("doctor")


def test_weights_are_audited_by_themselves(folder: Path, show: Callable[..., AppTest]) -> None:
    app = finished(show(), runs.weights(folder))
    assert "Looks healthy" in said(app)
    (figure,) = charts(app)
    cells = figure["data"][0]
    assert cells["type"] == "heatmap"
    assert len(app.get("download_button")) >= 2
