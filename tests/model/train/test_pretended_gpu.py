"""Training steps on a pretended GPU (tests/pretended_device.py) mix no devices, and give the CPU's losses."""

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.checkpoint.weights import inspect
from model.network.transformer import Transformer
from model.train.config import GrpoConfig, TrainConfig
from model.train.evaluation.context import LongText
from model.train.evaluation.sparsity import bits_per_byte, measure_recall
from model.train.log import LOG, read_log
from model.train.optimiser import make_optimiser
from model.train.post_training.generate import generate
from model.train.post_training.grpo import policy_loss
from model.train.post_training.instruct import response_loss
from model.train.post_training.pairs import Batch, fill_up
from model.train.post_training.preference import preference_loss
from model.train.post_training.reward import RewardModel, reward_loss
from model.train.post_training.tuning import response_logprobs
from model.train.pretraining import loop
from tests.model.train.corpora import write_tiny_shards
from tests.models import random_model, tiny_config
from tests.pretended_device import pretend

pretend()
SETTINGS: dict[str, Any] = dict(
    total_steps=2, warmup_steps=0, decay_steps=0, look_steps=1, look_bytes=100, learning_rate=1e-3, sequence_length=12,
    batch_size=1, accumulation=2, bias_speed=0.01, balance_weight=0.5, switch_weight=0.25, mtp_weight=0.7, threads=1,
    dtype="float32",
)  # fmt: skip
SPARSE = {"model_type": "deepseek_v32", "index_heads": 2, "index_head_dim": 12, "index_topk": 4}
ROWS = [([0, 7, 9], [5, 6, 8]), ([0, 5], [40, 41]), ([0, 7, 9], [11, 12]), ([0, 5], [3])]
DEVICES = ("pretended", "cpu")


def one_thread() -> None:
    """Let this thread's backward passes run in it. PyTorch starts its threads for devices once, perhaps too early."""
    torch.autograd.set_multithreading_enabled(False)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    one_thread()
    yield
    torch.autograd.set_multithreading_enabled(True)


def model_of(device: str, **changes: object) -> Transformer:
    return random_model(tiny_config(num_layers=2, **changes)).to(device)


@pytest.mark.parametrize(
    ("changes", "optimiser"), [({"has_mtp": True}, "adamw"), (SPARSE, "muon")], ids=["V3 with module", "V3.2"]
)
def test_pre_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], optimiser: str
) -> None:
    """A step, then a resumed one, each followed by an evaluation and the export of the model."""
    own_threads = functools.partial(
        ThreadPoolExecutor, initializer=torch._C._set_multithreading_enabled, initargs=(False,)
    )
    monkeypatch.setattr(loop, "ThreadPoolExecutor", own_threads)
    shards, logs = write_tiny_shards(tmp_path), {}
    for device in DEVICES:
        for steps in (1, 2):
            config = TrainConfig(**SETTINGS | {"total_steps": steps, "optimiser": optimiser, "device": device})
            shape = tiny_config(num_layers=2, **changes)
            loop.train(shape, config, shards, tmp_path / device, steps > 1, heldout=tmp_path / "corpus")
        logs[device] = list(read_log(tmp_path / device / LOG))
        assert not inspect(tmp_path / device / "model").problems
    names = {"loss", "mtp_loss", "balance_loss", "indexer_loss", "grad_norm"} & logs["cpu"][0].keys()
    for one, other in zip(*logs.values(), strict=True):
        assert [one[name] for name in ("load", "probe", "bias")] == [other[name] for name in ("load", "probe", "bias")]
        assert one["heldout"] == pytest.approx(other["heldout"], abs=2e-4)
        assert {name: one[name] for name in names} == pytest.approx({name: other[name] for name in names}, rel=1e-4)


def on(device: str, rows: list[tuple[list[int], list[int]]]) -> Batch:
    return Batch(*(part.to(device) for part in fill_up(rows)))


def instruct(model: Transformer, batch: Batch) -> Tensor:
    loss, facts = response_loss(model, batch)
    assert facts["tokens"] > 0
    return loss


def preference(model: Transformer, batch: Batch) -> Tensor:
    logprob_B = response_logprobs(model, batch).sum(1)
    return preference_loss(logprob_B, torch.zeros_like(logprob_B), 0.5)[0]


def grpo(model: Transformer, batch: Batch) -> Tensor:
    logprob_BT = response_logprobs(model, batch)
    old_BT, advantage_B = logprob_BT.detach() - 0.1, torch.tensor([1.0, -1.0, 0.5, -0.5], device=logprob_BT.device)
    return policy_loss(logprob_BT, old_BT, old_BT, advantage_B, batch.counted_BT, GrpoConfig(start="mini-v32"))[0]


def reward(model: Transformer, batch: Batch) -> Tensor:
    return reward_loss(RewardModel(model).to(batch.ids_BT.device)(batch))[0]


@pytest.mark.parametrize("loss", [instruct, preference, grpo, reward])
def test_step_of_tuning(loss: Callable[[Transformer, Batch], Tensor]) -> None:
    losses: dict[str, list[float]] = {}
    for device in DEVICES:
        model = model_of(device, **SPARSE).train()
        optimiser = make_optimiser(model, TrainConfig(**SETTINGS))
        for _ in range(2):
            optimiser.zero_grad()
            value = loss(model, on(device, ROWS))
            value.backward()
            optimiser.step()
            losses.setdefault(device, []).append(value.item())
    assert losses["pretended"] == pytest.approx(losses["cpu"], rel=1e-4)
    assert losses["cpu"][0] != losses["cpu"][1]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers(temperature: float) -> None:
    answers = [
        generate(model_of(device), [[0, 7, 9], [0, 5]], [4, 5], temperature, torch.Generator().manual_seed(5))
        for device in DEVICES
    ]
    for one, other in zip(*answers, strict=True):
        assert one.ids == other.ids
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


def test_attention_and_recall_of_whole_texts() -> None:
    text = LongText(list(range(5, 25)), np.ones(20, int))
    models = [model_of(device, **SPARSE) for device in DEVICES]
    one, other = (measure_recall(model, [text]) for model in models)
    assert one == {layer: pytest.approx(shares, rel=1e-4) for layer, shares in other.items()}
    one, other = (bits_per_byte(model, [text]) for model in models)
    assert one == pytest.approx(other, rel=1e-5)
