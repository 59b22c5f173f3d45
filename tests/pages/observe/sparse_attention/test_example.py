"""A model without an indexer on show: the recorded example, and the button that runs the text with a sparse model."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from model.run.engine import Engine
from model.trace.file import dumps
from model.trace.trace import Trace
from pages.common import models
from pages.common.menu import page_path
from pages.observe.sparse_attention import example
from tests.pages.conftest import charts, said
from tests.pages.fakes import FakeEngine

PAGE = page_path("sparse_attention")
Show = Callable[..., AppTest]


@pytest.fixture
def with_example(
    engine: FakeEngine,
    recorded: Path,
    sparse_engine: Engine,
    sparse_trace: Trace,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The first model has no indexer, the second has one, and a run of the second is recorded."""
    (recorded / example.FILE).write_bytes(gzip.compress(dumps(sparse_trace)))
    folders = {"fake": tmp_path, "sparse": sparse_engine.folder}
    monkeypatch.setattr(models, "available", lambda: folders)
    monkeypatch.setattr(
        models, "load", lambda folder, job=None: sparse_engine if folder == sparse_engine.folder else engine
    )


def test_a_recorded_run_of_a_sparse_model_is_shown(show: Show, with_example: None) -> None:
    app = show()
    assert len(charts(app)) == 2
    words = said(app)
    assert "random reads every earlier token: it has no indexer." in words
    assert ":gray-badge[recorded] sparse" in words
    assert "Token 15 keeps **6 of 16** keys" in words
    assert app.button(key="run-sparse").label == "Run this text with sparse"


def test_every_tab_shows_the_example(show_at: Show, with_example: None) -> None:
    for part in ("Left out", "Over the text", "All layers", "Cost"):
        assert len(charts(show_at(part=part))) == (2 if part == "Left out" else 3)


def test_the_button_runs_the_text_with_the_sparse_model(show: Show, with_example: None) -> None:
    app = show()
    app.session_state["new"] = 4
    app.button(key="run-sparse").click().run()
    assert not app.exception
    run = app.session_state["run"]
    assert run.trace.model["name"] == "sparse"
    assert app.selectbox(key="model").value == "sparse"
    assert run.trace.text.startswith(b"Once upon a time there was a wolf")
    assert "recorded" not in said(app)
    assert f"keeps **6 of {run.trace.num_tokens}** keys" in said(app)
    assert not [button for button in app.button if button.key == "run-sparse"]


def test_a_refused_run_says_why_and_keeps_the_example(
    show: Show, with_example: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pages.common.limits.PROMPT_TOKENS", 3)
    app = show()
    app.button(key="run-sparse").click().run()
    assert "at most 3 are run here; shorten it. The page shows the previous run again." in app.warning[0].value
    assert "Token 15 keeps **6 of 16** keys" in said(app)


def test_the_chosen_model_is_the_one_to_run_if_it_is_sparse(
    show: Show, with_example: None, sparse_engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folders = {"fake": tmp_path, "sparse": sparse_engine.folder, "another": sparse_engine.folder}
    monkeypatch.setattr(models, "available", lambda: folders)
    assert show(model="another").button(key="run-sparse").label == "Run this text with another"


def test_a_model_whose_indexer_no_run_records_is_not_offered(
    show: Show, with_example: None, sparse_engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "deepseek_v4", "index_topk": 8}')
    monkeypatch.setattr(models, "available", lambda: {"fourth": tmp_path, "sparse": sparse_engine.folder})
    assert show(model="fourth").button(key="run-sparse").label == "Run this text with sparse"


def test_without_a_sparse_model_the_example_is_not_shown(
    show: Show, with_example: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(models, "available", lambda: {"fake": tmp_path})
    app = show()
    assert not app.exception
    assert "has no indexer. Choose a V3.2 model" in said(app)
    assert not [button for button in app.button if button.key == "run-sparse"]
