"""A real tiny model, and how a test waits for its audit."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from model.run.engine import Engine
from pages.audit.doctor import runs
from pages.common import models
from tests.browser.conftest import write_model


@pytest.fixture
def folder(engine: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A real tiny model, with a vocabulary, in place of the fake one."""
    made = write_model(tmp_path / "tiny")
    monkeypatch.setattr(models, "available", lambda: {"tiny": made})
    monkeypatch.setattr(models, "load", lambda folder, job=None: Engine.load(folder, device="cpu"))
    return made


def finished(app: AppTest, audit: runs.Audit | None) -> AppTest:
    assert audit is not None
    assert audit.done.wait(120)
    return app.run()
