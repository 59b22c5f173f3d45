"""A model too large for the memory, in the app: only its prompt is run, with its layers as progress."""

from pathlib import Path

import pytest
import streamlit as st
import torch

from model.checkpoint.weights import save_model
from model.run.engine import Engine
from model.run.request import Capture, RunRequest
from pages.common import runs
from tests.models import random_model, tiny_config


class Place:
    def __init__(self) -> None:
        self.said: list[str] = []

    def progress(self, share: float, text: str) -> None:
        assert 0 <= share <= 1
        self.said.append(text)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    save_model(random_model(tiny_config()), tmp_path / "large", torch.float32)
    return Engine.from_disk(tmp_path / "large", device="cpu")


def test_only_the_prompt_is_run_and_every_layer_is_said(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs.live, "Feed", Feed)
    asked = RunRequest(token_ids=(2, 3, 4), max_new_tokens=9, capture=Capture(frozenset({"router", "attention"})))
    run, place = runs.Run(1, "run", asked), Place()
    runs.fit(run, engine)
    assert run.request is not None
    assert run.request.max_new_tokens == 0
    assert run.note is not None
    runs.execute(run, engine, place)  # type: ignore[arg-type]
    assert run.trace is not None
    assert run.trace.num_tokens == 3
    assert [text.split(",")[0] for text in place.said[:5]] == [f"layer {n} of 5" for n in range(1, 6)]


def test_stopped_between_layers_there_is_no_trace_but_a_word(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs.live, "Feed", Feed)
    run, place = runs.Run(1, "run", RunRequest(token_ids=(2, 3, 4))), Place()
    runs.fit(run, engine)
    place.progress = lambda share, text: run.stop()  # type: ignore[method-assign]
    runs.execute(run, engine, place)  # type: ignore[arg-type]
    assert run.trace is None
    assert run.error == "stopped after 1 of 5 layers"


def test_one_that_waits_for_another_run_says_so_and_is_stopped(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs.live, "Feed", Feed)
    run, place = runs.Run(1, "run", RunRequest(token_ids=(2, 3, 4))), Place()
    runs.fit(run, engine)

    def stop(share: float, text: str) -> None:
        place.said.append(text)
        run.stop()

    place.progress = stop  # type: ignore[method-assign]
    with engine.lock:
        runs.execute(run, engine, place)  # type: ignore[arg-type]
    assert place.said == ["Another run of this model reads it from the disk; yours starts when that one ends"]
    assert run.error == "stopped before its turn came"


class Feed:
    def __init__(self, header: object) -> None: ...

    def follow(self, steps):
        return steps


@pytest.fixture(autouse=True)
def _clear() -> None:
    st.cache_resource.clear()
