"""A model too large for the memory, in the app: only its prompt is run, with its layers as progress."""

import os
from pathlib import Path

import pytest
import torch

from model.checkpoint.weights import save_model
from model.run.engine import Engine
from model.run.request import RunRequest
from pages.common import jobs, runs
from tests.models import random_model, tiny_config


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What runs report."""
    texts: list[str] = []

    def report(run: runs.Run, share: float, text: str) -> None:
        assert 0 <= share <= 1
        texts.append(text)

    monkeypatch.setattr(runs.Run, "advance", report)
    return texts


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    save_model(random_model(tiny_config()), tmp_path / "large", torch.float32)
    return Engine.from_disk(tmp_path / "large", device="cpu")


def fitted(engine: Engine, new: int = 9) -> runs.Run:
    run = runs.Run(1, "run", RunRequest(token_ids=(2, 3, 4), max_new_tokens=new))
    runs.fit(run, engine)
    return run


def end(run: runs.Run, engine: Engine) -> runs.Run:
    jobs.begin(run, lambda: runs.record(run, engine))
    assert run.done.wait(60)
    return run


def test_only_the_prompt_is_run_and_every_layer_is_said(engine: Engine, reported: list[str]) -> None:
    run = fitted(engine)
    assert run.request is not None
    assert run.request.max_new_tokens == 0
    assert run.note is not None
    end(run, engine)
    assert run.trace is not None
    assert run.trace.num_tokens == 3
    assert [text.split(",")[0] for text in reported[:5]] == [f"layer {n} of 5" for n in range(1, 6)]


def test_stopped_between_layers_there_is_no_trace_but_a_word(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs.Run, "advance", lambda run, share, text: run.stop())
    run = end(fitted(engine), engine)
    assert run.trace is None
    assert run.error == "stopped after 1 of 5 layers"


def test_one_that_waits_for_another_run_says_so_and_is_stopped(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[str] = []
    monkeypatch.setattr(runs.Run, "advance", lambda run, share, text: (reported.append(text), run.stop()))
    assert engine.disk is not None
    with engine.disk.lock:
        run = end(fitted(engine), engine)
    assert reported == ["Another run of this model is reading its layers from disk; yours starts when that run ends"]
    assert run.error == "stopped before its turn came"


def test_weights_truncated_during_a_run_are_one_line_and_the_next_run_is_tried(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = engine.folder / "model.safetensors"
    content = path.read_bytes()
    monkeypatch.setattr(runs.Run, "advance", lambda run, share, text: os.truncate(path, 1_000))
    run = end(fitted(engine), engine)
    assert run.trace is None
    assert run.error is not None
    assert "ended before tensor" in run.error
    monkeypatch.undo()
    path.write_bytes(content)
    assert end(fitted(engine), engine).trace is not None
