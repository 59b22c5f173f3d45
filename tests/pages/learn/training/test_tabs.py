"""The tabs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from pages.learn.training import logs
from pages.learn.training.tabs import TABS
from tests.pages.conftest import charts, numbers
from tests.pages.learn.training.conftest import ANSWERED, log

PAGE = page_path("training")


def test_link_says_which_answers(
    page: Callable[..., AppTest], show_at: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kinds = {kind: [ANSWERED, ANSWERED] for kind in ("arithmetic", "chess")}
    (tmp_path / "two.json").write_text(json.dumps(log("two", answers=kinds)))
    monkeypatch.setattr(logs, "logs", lambda: logs.read(tmp_path))
    assert show_at(view="Answers", **{"answer-kind": "chess"}).selectbox(key="answer-kind").value == "chess"
    assert show_at(view="Answers", **{"answer-kind": "go"}).selectbox(key="answer-kind").value == "arithmetic"


@pytest.mark.parametrize("view", TABS)
def test_every_tab_shows_its_figure(page: Callable[..., AppTest], view: str) -> None:
    figures = charts(page(view=view))
    assert len(figures) == {"Load": 3, "Balance": 4, "Answers": 3}.get(view, 2)


@pytest.mark.parametrize("view", ["Held-out text", "Answers", "Bias", "Saturation"])
def test_what_was_not_logged_is_said(
    page: Callable[..., AppTest], view: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bare = {
        key: value
        for key, value in log("bare").items()
        if not key.startswith(("bias", "look", "held", "satur", "answer"))
    }
    (tmp_path / "bare.json").write_text(json.dumps(bare))
    monkeypatch.setattr(logs, "logs", lambda: logs.read(tmp_path))
    app = page(view=view)
    assert not app.exception
    assert "in this run" in " ".join(info.value for info in app.info)


def test_bits_by_position_are_drawn_where_long_texts_were_read(
    page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read = {"512 to 1,023": [2.5, 1.5], "512 to 1,023, in pieces": [1.75, 1.75]}
    long = log("long", position_step=[1, 30], positions=read)
    (tmp_path / "long.json").write_text(json.dumps(long))
    monkeypatch.setattr(logs, "logs", lambda: logs.read(tmp_path))
    (*_, figure) = charts(page(view="Held-out text"))
    assert {trace["name"]: numbers(trace["y"]).tolist() for trace in figure["data"]} == read


def test_table_of_held_out_texts_has_those_that_are_not_drawn(
    page: Callable[..., AppTest], show_at: Callable[..., AppTest]
) -> None:
    app = show_at(view="Held-out text", **{"heldout-texts": "math.en"})
    assert app.dataframe[1].value.columns.tolist() == ["step", "stories.en", "math.en"]
