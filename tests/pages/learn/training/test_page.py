"""The page on training: a healthy run and those that failed, by their logs."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from pages.learn.training import logs
from pages.learn.training.tabs import TABS
from tests.pages.conftest import charts, numbers, said

PAGE = page_path("training")
SHIPPED = logs.FOLDER
ANSWERED = {"right": 2, "exact": 1, "of": 8, "low": 0.07, "high": 0.59}


def log(name: str, **changes: object) -> dict:
    """Three spans of steps, two layers of four experts, the second of which was added late."""
    load = [[1.0, 1.0, 1.0, 1.0], [2.0, 1.0, 1.0, 0.0], [4.0, 0.0, 0.0, 0.0]]
    return {
        "name": name, "says": "said of it", "stages": [[1, "first"], [21, "second"]], "step": [10, 20, 30],
        "tokens": [100, 200, 300], "loss": [5.0, 4.0, 3.0], "mtp_loss": [None, 5.0, 4.0],
        "load": {"1": load, "2": [None, *load[1:]]}, "alarms": [[30, "collapse in L1: E0 takes 4 times a fair share"]],
        "look_step": [1, 30], "heldout": {"stories.en": [3.0, 2.0], "math.en": [3.5, 2.5]},
        "answer_step": [0, 30], "answers": {"arithmetic": [ANSWERED, ANSWERED | {"right": 6}]},
        "reward": [0.1, 0.2, 0.3],
        "saturation": {"1": [0.5, 1.0]}, "bias_step": [1, 30], "bias": {"1": [[0.0] * 4, [0.3, -0.1, -0.1, -0.1]]},
    } | changes  # fmt: skip


@pytest.fixture
def page(show: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., AppTest]:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "mini.json").write_text(json.dumps(log("mini one")))
    (folder / "nano.json").write_text(json.dumps(log("mini two", alarms=[], loss=[5.0, 5.0, 5.0])))
    monkeypatch.setattr(logs, "logs", lambda: logs.read(folder))
    return show


def test_loss_stands_beside_other_runs_with_stages_and_alarms(page: Callable[..., AppTest]) -> None:
    app = page()
    (figure, *_) = charts(app)
    assert [trace["name"] for trace in figure["data"]] == ["mini one", "mini two", "token after the next one", "alarm"]
    assert [note["text"] for note in figure["layout"]["annotations"]] == ["first", "second"]
    assert "step 30, collapse in L1" in said(app)


def test_loss_of_indexers_stands_beside(
    page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "logs" / "mini.json").write_text(json.dumps(log("mini one", indexer_loss=[0.9, 0.8, 0.7])))
    monkeypatch.setattr(logs, "logs", lambda: logs.read(tmp_path / "logs"))
    indexers = next(trace for trace in charts(page())[0]["data"] if trace["name"] == "indexers, sum over layers")
    assert numbers(indexers["y"]).tolist() == pytest.approx([0.9, 0.8, 0.7])


def test_link_says_what_is_drawn(page: Callable[..., AppTest], show_at: Callable[..., AppTest]) -> None:
    app = show_at(view="Held-out text", **{"beside-mini one": "", "heldout-texts": "math.en"})
    first, heldout = charts(app)
    assert [trace["name"] for trace in first["data"]] == ["mini one", "token after the next one", "alarm"]
    assert [trace["name"] for trace in heldout["data"]] == ["math.en"]


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


def test_share_of_right_answers_begins_before_the_first_step() -> None:
    found = logs.Log("x", "y", log("x")).answers("arithmetic")
    assert found["step"].values.tolist() == [0, 30]
    assert found["share"].values.tolist() == [0.25, 0.75]
    assert found["low"].values.tolist() == [0.07, 0.07]


def test_figures_of_the_load_are_those_of_the_log() -> None:
    one = logs.Log("x", "y", log("x"))
    assert one.layers == [1, 2]
    assert np.isnan(one.load().sel(moe_layer=2, step=10)).all()
    balance = one.balance()
    assert balance["MaxVio"].sel(moe_layer=1).values.tolist() == [0.0, 1.0, 3.0]
    assert balance["share of dead experts"].sel(moe_layer=1).values.tolist() == [0.0, 0.25, 0.75]
    assert np.isnan(one.curve("mtp_loss").values[0])
    assert one.bias(2) is None


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.json")), ids=lambda path: path.stem)
def test_shipped_logs_can_be_read(path: Path) -> None:
    assert path.stat().st_size < 400_000
    (one,) = [each for each in logs.read(SHIPPED).values() if each.name.replace(" ", "-") == path.stem]
    assert one.load().sizes["step"] == len(one.values["step"])
    assert np.isfinite(one.curve("loss")).all()


def test_run_without_balancing_says_that_it_collapsed() -> None:
    shipped = logs.read(SHIPPED)
    assert any(said.startswith("collapse") for _, said in shipped["nano nothing"].alarms)
    assert not shipped["nano bias"].alarms
    worst = {
        name: float(shipped[name].balance()["MaxVio"].isel(step=-1).max()) for name in ("nano nothing", "nano bias")
    }
    assert worst["nano nothing"] > 3
    assert worst["nano bias"] < 1.5


def test_log_of_the_embedded_model_comes_first() -> None:
    assert next(iter(logs.read(SHIPPED))) == "mini-v3"
