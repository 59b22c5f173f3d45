"""Options of any stage: what is frozen stays to the bit, the batch grows, an alarm sends a run back to other text."""

import os
import signal
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from model.train.config import TrainConfig, TrainConfigError
from model.train.data.windows import Windows
from model.train.freezing import freeze
from model.train.log import LOG, read_log
from model.train.pretraining import loop
from model.train.pretraining.initial_model import initial_model
from model.train.pretraining.loop import train
from model.train.pretraining.trainer import Trainer
from model.train.state import STATE
from model.train.watch import Watch
from tests.model.train.corpora import write_tiny_shards
from tests.models import random_model, tiny_config

SHAPE = tiny_config(num_layers=3, tie_embeddings=True)


def config(**changes: object) -> TrainConfig:
    settings: dict[str, object] = dict(
        total_steps=7, warmup_steps=0, decay_steps=0, learning_rate=5e-3, sequence_length=16, batch_size=2,
        bias_speed=0.01, checkpoint_steps=3, threads=1, device="cpu", dtype="float32",
    )  # fmt: skip
    return TrainConfig(**(settings | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_shards(tmp_path_factory.mktemp("options"))


def test_frozen_parameters_stay_to_the_bit_and_all_others_learn(shards: Path, tmp_path: Path) -> None:
    pieces = ("blocks.0.", ".router.", "embedding.")
    before = initial_model(SHAPE, 0).state_dict()
    trainer = train(SHAPE, config(frozen=list(pieces), total_steps=3), shards, tmp_path)
    for name, tensor in trainer.model.state_dict().items():
        assert tensor.equal(before[name]) == any(piece in name for piece in pieces), name
    moments = {id(parameter) for parameter, held in trainer.optimiser.state.items() if held}
    assert moments == {id(parameter) for parameter in trainer.parameters}


def test_unusable_frozen_is_named() -> None:
    model = random_model(SHAPE)
    with pytest.raises(TrainConfigError, match="no parameter has 'layers.0.' in its name"):
        freeze(model, ["layers.0."])
    with pytest.raises(TrainConfigError, match="no parameter to train"):
        freeze(model, ["e", "o"])
    with pytest.raises(TrainConfigError, match="parts of parameter names"):
        config(frozen=[0])


def test_batch_grows_by_whole_passes(shards: Path, tmp_path: Path) -> None:
    growing = config(accumulation=4, ramp_steps=6, ramp_batch=2)
    assert [growing.passes_at(step) for step in range(8)] == [1, 1, 2, 2, 3, 3, 4, 4]
    train(SHAPE, growing, shards, tmp_path)
    lines = list(read_log(tmp_path / LOG))
    assert [line["tokens"] for line in lines] == [32, 32, 64, 64, 96, 96, 128]
    assert all(sum(line["load"]["1"]) == line["tokens"] * SHAPE.top_k for line in lines)


@pytest.mark.parametrize("ramp_batch", [0, 3, 10])
def test_ramp_that_is_no_number_of_passes_is_refused(ramp_batch: int) -> None:
    with pytest.raises(TrainConfigError, match="multiple of batch_size and at most 8"):
        config(accumulation=4, ramp_steps=3, ramp_batch=ramp_batch)


def alarm_at(monkeypatch: pytest.MonkeyPatch, is_bad: Any) -> None:
    class Alarmed(Watch):
        def check(self, line: Mapping[str, Any]) -> dict[str, list[str]]:
            return {"alarms": ["loss spike: told to"]} if is_bad(line) else {}

    monkeypatch.setattr(loop, "Watch", Alarmed)


def test_alarm_sends_back_to_the_last_state_past_the_batches_that_led_to_it(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """State of step 3, alarm at step 5 each time: two batches are left out twice, and the third alarm ends the run."""
    drawn: list[int] = []
    plain = loop.open_windows

    def watched(*arguments: Any) -> Any:
        windows = plain(*arguments)
        batch = windows.batch
        monkeypatch.setattr(windows, "batch", lambda seed, step, n: drawn.append(step) or batch(seed, step, n))
        return windows

    monkeypatch.setattr(loop, "open_windows", watched)
    alarm_at(monkeypatch, lambda line: line["step"] == 5)
    trainer = train(SHAPE, config(roll_back_on_alarm=2), shards, tmp_path)
    assert drawn == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert (trainer.steps_done, trainer.roll_backs, trainer.skipped) == (5, 2, 4)
    lines = list(read_log(tmp_path / LOG))
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert [line["step"] for line in lines if "roll_back" in line] == [4]
    assert lines[3]["roll_back"] == {"from": 5, "to": 3, "said": ["loss spike: told to"]}
    assert "alarms" in lines[4]
    assert not (tmp_path / "model").exists()


def test_alarm_before_the_first_save_sends_back_to_the_beginning(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alarm_at(monkeypatch, lambda line: line["step"] == 2 and "roll_back" not in line)
    trainer = train(SHAPE, config(roll_back_on_alarm=1, total_steps=2), shards, tmp_path)
    first = next(read_log(tmp_path / LOG))
    assert first["roll_back"]["to"] == 0
    assert trainer.skipped == 2
    fresh = Trainer(initial_model(SHAPE, 0), config(total_steps=2), Windows(shards, 16, 0), torch.device("cpu"))
    fresh.skipped = 2
    with ThreadPoolExecutor(1) as executor:
        for _ in range(2):
            fresh.step(executor)
    for name, tensor in fresh.model.state_dict().items():
        assert tensor.equal(trainer.model.state_dict()[name]), name


def test_run_that_went_back_is_resumed_to_the_same_bytes(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(SHAPE, config(), shards, tmp_path / "plain")
    bad = list(read_log(tmp_path / "plain" / LOG))[4]["loss"]
    alarm_at(monkeypatch, lambda line: line["loss"] == bad)
    settings = config(roll_back_on_alarm=1)
    whole = train(SHAPE, settings, shards, tmp_path / "whole")

    def stop(line: dict[str, Any]) -> None:
        if "roll_back" in line:
            os.kill(os.getpid(), signal.SIGTERM)

    part = train(SHAPE, settings, shards, tmp_path / "part", report=stop)
    assert part.steps_done == 4
    train(SHAPE, settings, shards, tmp_path / "part", resume=True)
    assert (whole.steps_done, whole.skipped) == (7, 2)
    assert (tmp_path / "whole" / STATE).read_bytes() == (tmp_path / "part" / STATE).read_bytes()


def test_watch_of_a_resumed_run_remembers_the_steps_before() -> None:
    steady = [{"loss": 1.0, "grad_norm": 1.0, "load": {"1": [1] * 16}} for _ in range(50)]
    spike = steady[0] | {"loss": 3.0}
    assert "alarms" not in Watch(SHAPE).check(spike)
    assert "loss spike" in Watch.after(SHAPE, steady).check(spike)["alarms"][0]
