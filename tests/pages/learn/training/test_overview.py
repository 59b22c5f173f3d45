"""The alarms and the losses."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.common import files
from pages.common.menu import page_path
from pages.learn.training import logs
from tests.pages.conftest import charts, numbers, said
from tests.pages.learn.training.conftest import log

PAGE = page_path("training")


def test_loss_stands_beside_other_runs_with_stages_and_alarms(page: Callable[..., AppTest]) -> None:
    app = page()
    (figure, *_) = charts(app)
    assert [trace["name"] for trace in figure["data"]] == ["mini one", "mini two", "token after the next one", "alarm"]
    assert [note["text"] for note in figure["layout"]["annotations"]] == ["first", "second"]
    assert "step 30, collapse in L1" in said(app)


def test_answer_in_numbers_and_a_continuation_at_its_step(
    page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content = {name: values for name, values in log("mini two", begin=500).items() if name != "reward"}
    (tmp_path / "logs" / "nano.json").write_text(json.dumps(content))
    monkeypatch.setattr(logs, "logs", lambda: logs.read(tmp_path / "logs"))
    app = page(log="mini two")
    assert "**mini two**, steps 501 to 530: the loss went from **5 to 3** nats per token." in said(app)
    two = next(trace for trace in charts(app)[0]["data"] if trace["name"] == "mini two")
    assert numbers(two["x"]).tolist() == [510, 520, 530]
    assert "**mini one**, steps 1 to 30. said of it" in said(page(log="mini one"))  # text, then rewards: two objectives


def test_loss_of_indexers_stands_beside(
    page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "logs" / "mini.json").write_text(json.dumps(log("mini one", indexer_loss=[0.9, 0.8, 0.7])))
    monkeypatch.setattr(logs, "logs", lambda: logs.read(tmp_path / "logs"))
    indexers = next(trace for trace in charts(page())[0]["data"] if trace["name"] == "indexers, sum over layers")
    assert numbers(indexers["y"]).tolist() == pytest.approx([0.9, 0.8, 0.7])


def test_legend_stands_above_the_note_of_the_saved_file(page: Callable[..., AppTest]) -> None:
    layout = charts(page())[0]["layout"]
    assert layout["legend"]["yref"] == layout["title"]["yref"] == "container"
    assert layout["legend"]["y"] * layout["height"] == pytest.approx(files.NOTE_HEIGHT)
