"""Texts and a reference to audit with."""

from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

from pages.audit.doctor import runs
from pages.common.menu import page_path
from tests.pages.audit.doctor.conftest import finished

PAGE = page_path("doctor")


def test_texts_are_run_at_a_button(folder: Path, show: Callable[..., AppTest]) -> None:
    app = finished(show(), runs.weights(folder))
    app.text_area(key="doctor-prompts").set_value("Once upon a time\n\nthere was a wolf").run()
    app.button(key="run-texts").click().run()
    (audit,) = [audit for (stage, *_), audit in app.session_state["audits"].items() if stage == runs.TEXT]
    app = finished(app, audit)
    assert audit.error is None
    assert audit.report is not None
    assert audit.report.prompts == ("Once upon a time", "there was a wolf")
    assert "bf16 against fp32" in [check for frame in app.dataframe for check in frame.value.get("check", [])]


def test_reference_that_is_no_trace_is_refused_in_one_line(folder: Path, show: Callable[..., AppTest]) -> None:
    app = finished(show(), runs.weights(folder))
    app.file_uploader(key="doctor-file").upload("healthy.safetensors", b"pickle").run()
    (error,) = app.error
    assert "not a MoE Loupe trace" in error.value
