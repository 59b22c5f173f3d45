"""The findings of an audit, with the pages that show them."""

from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

from pages.audit.doctor import runs
from pages.common.menu import page_path
from tests.model.doctor.checkpoints import BIAS, plant
from tests.pages.audit.doctor.conftest import finished
from tests.pages.conftest import said

PAGE = page_path("doctor")


def test_a_finding_leads_to_the_view_that_shows_it(folder: Path, show: Callable[..., AppTest]) -> None:
    plant(folder, lambda tensors: tensors[BIAS][5].fill_(-40.0))
    app = finished(show(), runs.weights(folder))
    assert "Something is broken" in said(app)
    assert any("L3E5" in text.value and "red-badge" in text.value for text in app.markdown)
    links = [link.proto for link in app.get("page_link")]
    assert any(link.label == "Routing L3E5" for link in links)
