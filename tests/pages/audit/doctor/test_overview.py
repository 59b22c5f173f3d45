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
    assert any(button.label == "Routing L3E5" for button in app.button)


def test_a_link_opens_the_run_that_was_audited(folder: Path, show: Callable[..., AppTest]) -> None:
    """The run on show before is the recorded example of another model."""
    plant(folder, lambda tensors: tensors[BIAS][5].fill_(-40.0))
    app = finished(show(), runs.weights(folder))
    app.text_area(key="doctor-prompts").set_value("a fox ran over the hill\nand slept").run()
    app.button(key="run-texts").click().run()
    (audit,) = [audit for audit in app.session_state["audits"].values() if audit.trace or audit.waiting]
    finished(app, audit)
    assert "run" not in app.session_state
    opened = next(button for button in app.button if button.label == "Routing L3E5").click().run()
    assert opened.session_state["run"].trace is audit.trace
    assert audit.trace.text == b"a fox ran over the hill"
    assert opened.query_params["layer"] == "3"
    assert opened.query_params["expert"] == "5"


def test_a_link_without_an_audit_of_texts_runs_the_audited_model(folder: Path, show: Callable[..., AppTest]) -> None:
    plant(folder, lambda tensors: tensors[BIAS][5].fill_(-40.0))
    app = finished(show(), runs.weights(folder))
    opened = next(button for button in app.button if button.label == "Routing L3E5").click().run()
    run = opened.session_state["run"]
    assert run.done.wait(120)
    assert run.trace.model["name"] == folder.name
