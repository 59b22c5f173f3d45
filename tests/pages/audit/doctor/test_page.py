"""The doctor's page: the weights by themselves, texts at a button, findings with links, files without texts."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.audit.doctor import runs
from pages.common import models
from pages.common.menu import page_path
from tests.families import saved
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


def test_a_model_of_another_family_is_audited_by_its_structure(
    show: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved("mixtral")
    monkeypatch.setattr(models, "available", lambda: {"mixtral": folder})
    app = finished(show(), runs.weights(folder))
    assert "Looks healthy" in said(app)
    (table,) = [each.value for each in app.dataframe if "looked at" in each.value]
    checks = dict(zip(table["check"], table["looked at"], strict=True))
    assert "keys of DeepSeek's configurations" in checks["config"]
    assert checks["experts"] == "32 experts, each against the others of its layer"
