"""The doctor's page: the weights by themselves, texts at a button, findings with links, files without texts."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from streamlit.testing.v1 import AppTest

from model.checkpoint.weights import save_model
from model.run.engine import Engine
from pages.common import doctor_runs, models
from tests.browser.conftest import write_model
from tests.model.doctor.checkpoints import BIAS, plant
from tests.models import random_model, tiny_config
from tests.pages.conftest import charts, said

PAGE = "pages/audit/doctor.py"


@pytest.fixture
def folder(engine: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A real tiny model, with a vocabulary, in place of the fake one."""
    made = write_model(tmp_path / "tiny")
    monkeypatch.setattr(models, "available", lambda: {"tiny": made})
    monkeypatch.setattr(models, "load", lambda folder: Engine.load(folder, device="cpu"))
    return made


def finished(app: AppTest, audit: doctor_runs.Audit | None) -> AppTest:
    assert audit is not None
    assert audit.done.wait(120)
    return app.run()


def test_weights_are_audited_by_themselves(folder: Path, show: Callable[..., AppTest]) -> None:
    app = finished(show(), doctor_runs.weights(folder))
    assert "Looks healthy" in said(app)
    (figure,) = charts(app)
    cells = figure["data"][0]
    assert cells["type"] == "heatmap"
    assert len(app.get("download_button")) >= 2


def test_a_finding_leads_to_the_view_that_shows_it(folder: Path, show: Callable[..., AppTest]) -> None:
    plant(folder, lambda tensors: tensors[BIAS][5].fill_(-40.0))
    app = finished(show(), doctor_runs.weights(folder))
    assert "Something is broken" in said(app)
    assert any("L3E5" in text.value and "red-badge" in text.value for text in app.markdown)
    links = [link.proto for link in app.get("page_link")]
    assert any(link.label == "Routing L3E5" for link in links)


def test_texts_are_run_at_a_button(folder: Path, show: Callable[..., AppTest]) -> None:
    app = finished(show(), doctor_runs.weights(folder))
    app.text_area(key="doctor-prompts").set_value("Once upon a time\n\nthere was a wolf").run()
    app.button(key="run-texts").click().run()
    (audit,) = app.session_state["audits"].values()
    app = finished(app, audit)
    assert audit.error is None
    assert audit.report is not None
    assert audit.report.prompts == ("Once upon a time", "there was a wolf")
    assert "bf16 against fp32" in [check for frame in app.dataframe for check in frame.value.get("check", [])]


def test_what_cannot_be_audited_is_said(engine: object, show: Callable[..., AppTest], tmp_path: Path) -> None:
    app = finished(show(), doctor_runs.weights(tmp_path))
    assert "config.json" in " ".join(error.value for error in app.error)
    assert not app.exception


def test_a_changed_folder_is_audited_anew(folder: Path, show: Callable[..., AppTest]) -> None:
    first = finished(show(), doctor_runs.weights(folder))
    assert "Looks healthy" in said(first)
    save_model(random_model(tiny_config(max_positions=1024), seed=3), folder, torch.float32)
    assert doctor_runs.weights(folder) is None
