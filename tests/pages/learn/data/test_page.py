"""The page on the data: the reports that come along, and a text tried against the rules."""

from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from pages.learn.data import reports
from pages.learn.data import tables as data_tables
from pages.learn.data.reports import DAMAGED, TRAINING
from tests.pages.conftest import charts, said
from tests.pages.learn.data.conftest import report

OpenApp = Callable[..., AppTest]
PAGE = page_path("data")
NAMES = {TRAINING: "report.json", DAMAGED: "noisy.json"}


@pytest.mark.parametrize("name", NAMES)
def test_figure_is_the_report(show_at: OpenApp, name: str) -> None:
    app = show_at(report=name)
    (figure,) = charts(app)
    rows = data_tables.by_rule(report(name))
    assert figure["data"][1]["y"] == list(rows["rule"])
    assert f"{report(name)['in']['records']:,} texts" in said(app)
    assert app.markdown[0].value.startswith("What was the model trained on, and what was left out?")


@pytest.mark.parametrize("content", [None, "not json"])
def test_report_that_cannot_be_read(
    show_at: OpenApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    monkeypatch.setattr(reports, "REPORTS", tmp_path)
    st.cache_data.clear()
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    app = show_at()
    assert "The report cannot be read" in said(app)
    assert not app.exception
