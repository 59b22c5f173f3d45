"""Training a part by a loss of its own: passes add up, and a run that was stopped goes on to the same bytes."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from model.train.config import TrainConfig, TrainConfigError
from model.train.log import LOG, read_log
from model.train.minimise import Stopped, merge_facts, minimise
from model.train.state import STATE


class Numbers:
    """Batches of random numbers."""

    def batch(self, seed: int, step: int, num_sequences: int, /) -> Tensor:
        return torch.randn(num_sequences, 4, generator=torch.Generator().manual_seed(1000 * seed + step))


def config(**changes: object) -> TrainConfig:
    settings: dict[str, object] = dict(
        total_steps=6, warmup_steps=0, decay_steps=0, learning_rate=1e-2, sequence_length=1, batch_size=2,
        bias_speed=0.0, checkpoint_steps=2, threads=1, dtype="float32",
    )  # fmt: skip
    return TrainConfig(**(settings | changes))  # type: ignore[arg-type]


def new_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 1))


def squares(model: nn.Module) -> Any:
    def loss(batch: Tensor, step: int) -> tuple[Tensor, dict[str, Any]]:
        value = (model(batch).float() - batch.sum(-1, keepdim=True)).square().mean()
        return value, {"loss": float(value.detach()), "load": {"1": [len(batch), 0]}}

    return loss


def test_stopped_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    whole, part = new_model(), new_model()
    measured = minimise(whole, squares(whole), config(), Numbers(), tmp_path / "whole", evaluate=lambda: {"seen": 1})

    def stop(line: dict[str, Any]) -> None:
        if line["step"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped, match="3 of 6 steps done"):
        minimise(part, squares(part), config(), Numbers(), tmp_path / "part", stop, lambda: {"seen": 1})
    fresh = new_model()
    again = minimise(
        fresh, squares(fresh), config(), Numbers(), tmp_path / "part", evaluate=lambda: {"seen": 2}, resume=True
    )
    assert measured == again == {"seen": 1}  # of the model at the start, not of the one that was resumed
    assert (tmp_path / "whole" / STATE).read_bytes() == (tmp_path / "part" / STATE).read_bytes()
    losses = [[line["loss"] for line in read_log(tmp_path / run / LOG)] for run in ("whole", "part")]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 6


def test_without_resume_a_run_begins_anew(tmp_path: Path) -> None:
    model = new_model()
    minimise(model, squares(model), config(), Numbers(), tmp_path)
    first = (tmp_path / STATE).read_bytes()
    other = new_model()
    minimise(other, squares(other), config(), Numbers(), tmp_path)
    assert (tmp_path / STATE).read_bytes() == first
    assert len(list(read_log(tmp_path / LOG))) == 6


def test_passes_give_the_mean_gradient_and_what_they_say_together(tmp_path: Path) -> None:
    model, single = new_model(), new_model()
    minimise(model, squares(model), config(total_steps=1, accumulation=2), Numbers(), tmp_path)
    (line,) = read_log(tmp_path / LOG)
    assert (line["tokens"], line["load"]) == (4, {"1": [4, 0]})
    both = torch.cat([Numbers().batch(0, place, 2) for place in (0, 1)])
    value, _ = squares(single)(both, 0)
    value.backward()
    expected = torch.cat([p.grad.flatten() for p in single.parameters() if p.grad is not None]).norm()
    assert line["loss"] == pytest.approx(float(value.detach()))
    assert line["grad_norm"] == pytest.approx(float(expected), rel=1e-5)


def test_products_are_in_the_dtype_that_is_asked_for(tmp_path: Path) -> None:
    seen: list[torch.dtype] = []
    for dtype in ("float32", "bfloat16"):
        model = new_model()
        model[0].register_forward_hook(lambda *event: seen.append(event[2].dtype))  # type: ignore[index]
        minimise(model, squares(model), config(total_steps=1, dtype=dtype), Numbers(), tmp_path / dtype)
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert seen == [torch.float32, torch.bfloat16]


def test_frozen_stays_and_what_else_changes_is_called_once_a_step(tmp_path: Path) -> None:
    model, called = new_model(), []
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    minimise(
        model, squares(model), config(frozen=["0."], accumulation=2), Numbers(), tmp_path,
        after_step=lambda facts, step: called.append((step, facts["load"]["1"][0])),
    )  # fmt: skip
    for name, tensor in model.state_dict().items():
        assert tensor.equal(before[name]) == name.startswith("0."), name
    assert called == [(step, 4) for step in range(6)]


def test_counts_add_up_and_measures_are_averaged() -> None:
    said = [
        {"loss": 1.0, "load": {"2": [1, 2]}, "each": [0.5, 1.5]},
        {"loss": 3.0, "load": {"2": [0, 5]}, "each": [1.5, 0.5]},
    ]
    assert merge_facts(said) == {"loss": 2.0, "load": {"2": [1, 7]}, "each": [1.0, 1.0]}


@pytest.mark.parametrize("device", ["cuda", "gpu"])
def test_another_device_than_the_cpu_is_refused(tmp_path: Path, device: str) -> None:
    model = new_model()
    with pytest.raises(TrainConfigError, match=f"runs on the CPU only; remove device, which is '{device}'"):
        minimise(model, squares(model), config(device=device), Numbers(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_keeps_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = new_model()
    minimise(model, squares(model), config(total_steps=2), Numbers(), tmp_path)
    before = (tmp_path / STATE).read_bytes()

    def full_disk(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("model.train.state.save_file", full_disk)
    with pytest.raises(OSError, match="No space left on device"):
        minimise(model, squares(model), config(), Numbers(), tmp_path, resume=True)
    assert (tmp_path / STATE).read_bytes() == before
