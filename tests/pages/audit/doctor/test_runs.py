"""Audits in their threads: shared, stopped, queued, repeated."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from streamlit.runtime.caching import clear_session_resource_cache
from streamlit.testing.v1 import AppTest

from model.checkpoint.weights import save_model
from model.doctor import weights as doctor_weights
from model.doctor.reading import Progress, Stopped
from model.run.engine import Engine
from model.run.request import Capture, RunRequest
from model.run.turns import Turns
from model.trace.file import dumps
from pages.audit.doctor import runs
from pages.common import jobs, models
from pages.common.menu import page_path
from tests.model.doctor.checkpoints import BIAS, plant
from tests.models import random_model, tiny_config
from tests.pages.audit.doctor.conftest import finished
from tests.pages.conftest import SESSION, said

PAGE = page_path("doctor")


def test_whoever_started_the_audit_of_the_weights_stops_it(
    folder: Path, show: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    began = threading.Event()

    def slow(folder: Path, tell: Callable[[object], None], cancel: threading.Event) -> None:
        tell(Progress(1, 9, 1))
        began.set()
        assert cancel.wait(60)
        raise Stopped("stopped after 1 of 9 tensors")

    with monkeypatch.context() as patch:
        patch.setattr(doctor_weights, "examine_weights", slow)
        app = show()
        assert began.wait(60)
        other = show()
        assert other.button(key="stop-audits").disabled
        assert not app.run().button(key="stop-audits").disabled
        audit = runs.weights(folder)
        app = finished(app.button(key="stop-audits").click().run(), audit)
    assert "The audit of the weights ended: stopped after 1 of 9 tensors" in said(app)
    assert app.button(key="stop-audits").disabled
    app.button(key="read-weights").click().run()
    assert "Looks healthy" in said(finished(app, runs.weights(folder)))


def test_audit_waits_for_its_turn_among_all_that_visitors_run(
    folder: Path, show: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "TURNS", Turns(0))
    app, audit = show(), runs.weights(folder)
    assert audit is not None
    assert audit.waiting
    app = finished(app.button(key="stop-audits").click().run(), audit)
    assert "it was stopped before its turn came" in said(app)


def test_closing_the_tab_ends_the_audit_of_its_text_and_not_that_of_the_weights(
    folder: Path, show: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = Turns(1)
    ticket = turns.join()
    assert turns.begin(ticket, 0)
    monkeypatch.setattr(jobs, "TURNS", turns)
    app, weights = show(), runs.weights(folder)
    app.button(key="run-texts").click().run()
    (text,) = [audit for (stage, *_), audit in app.session_state["audits"].items() if stage == runs.TEXT]
    clear_session_resource_cache(SESSION)
    assert text.done.wait(30)
    assert text.cancel.is_set()
    assert weights is not None
    assert weights.waiting
    turns.leave(ticket)
    assert weights.done.wait(120)
    assert weights.complete


def test_reference_is_compared_by_an_engine_that_nobody_shares(folder: Path, show: Callable[..., AppTest]) -> None:
    healthy = Engine.load(folder, device="cpu").run(RunRequest(prompt="Once upon a time", capture=Capture()))
    plant(folder, lambda tensors: tensors[BIAS][5].add_(0.5))
    app = finished(show(), runs.weights(folder))
    app.file_uploader(key="doctor-file").upload("healthy.safetensors", dumps(healthy)).run()
    app.button(key="run-texts").click().run()
    (audit,) = [audit for (stage, *_), audit in app.session_state["audits"].items() if stage == runs.TEXT]
    app = finished(app, audit)
    assert audit.error is None
    assert audit.report is not None
    assert audit.report.prompts == ()
    assert "bias differs from the reference" in said(app)
    assert not models.engines().has(folder)


def test_what_cannot_be_audited_is_said(engine: object, show: Callable[..., AppTest], tmp_path: Path) -> None:
    app = finished(show(), runs.weights(tmp_path))
    assert "config.json" in " ".join(error.value for error in app.error)
    assert not app.exception


def test_a_changed_folder_is_audited_anew(folder: Path, show: Callable[..., AppTest]) -> None:
    first = finished(show(), runs.weights(folder))
    assert "Looks healthy" in said(first)
    save_model(random_model(tiny_config(max_positions=1024), seed=3), folder, torch.float32)
    assert runs.weights(folder) is None
