"""Layers on several devices give the same trace, and an impossible placement is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoint.weights import save_model
from model.run.engine import Engine
from model.run.interventions import KnockOut
from model.run.request import Capture, RequestError, RunRequest
from model.run.sharding import load_placed
from model.trace.trace import Trace
from tests.models import random_model, tiny_config

SPARSE = {"model_type": "deepseek_v32", "index_heads": 4, "index_head_dim": 16, "index_topk": 8}


def placement(num_layers: int, *devices: object) -> dict[str, object]:
    """Return a placement with the first layers on the first device, the next on the second, and so on."""
    of_layer = {f"blocks.{layer}": devices[layer * len(devices) // num_layers] for layer in range(num_layers)}
    outer = {"embedding": devices[0], "rotary": devices[0], "norm": devices[-1], "head": devices[-1]}
    return outer | of_layer | {"mtp": devices[-1]}


def traces(folder: Path, devices: tuple[object, ...]) -> tuple[Trace, Trace]:
    variables = {"router", "attention", "inputs", "logits", "drafts"}
    plain = Engine.load(folder, device=str(devices[0]))
    variables |= {"indexer"} if plain.config.is_sparse else set()
    spread = Engine(load_placed(folder, placement(5, *devices), torch.float32), None, "spread", folder)
    request = RunRequest(
        token_ids=(0, 7, 101, 33, 250, 9, 9, 64), max_new_tokens=12, capture=Capture(frozenset(variables)),
        interventions=(KnockOut(1, 3), KnockOut(4, 2)),
    )  # fmt: skip
    return plain.run(request), spread.run(request)


@pytest.fixture(params=[{}, SPARSE], ids=["V3", "V3.2"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    save_model(random_model(tiny_config(has_mtp=True, **request.param)), tmp_path / "model", torch.float32)
    return tmp_path / "model"


def test_trace_is_the_same_under_the_hooks(folder: Path) -> None:
    plain, spread = traces(folder, ("cpu", "cpu"))
    assert spread.data.identical(plain.data)


@pytest.mark.gpu
def test_trace_is_the_same_over_several_gpus(folder: Path) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one CUDA device only")
    plain, spread = traces(folder, ("cuda:0", "cuda:1"))
    for name, values in plain.data.data_vars.items():
        assert np.allclose(spread.data[name].values, values.values, atol=1e-4, equal_nan=True), name


def test_there_must_be_a_gpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RequestError, match="no GPU to spread the layers over"):
        Engine.load(folder, shard=True)
    with pytest.raises(RequestError, match="not over 'cpu'"):
        Engine.load(folder, device="cpu", shard=True)


@pytest.mark.parametrize(("gigabytes", "fits"), [(1, True), (1e-7, False)])
def test_layers_are_placed_whole_or_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, gigabytes: float, fits: bool
) -> None:
    from model.run import sharding

    room = {0: int(gigabytes * 1e9), 1: int(gigabytes * 1e9), "cpu": 10**12}
    monkeypatch.setattr("accelerate.utils.get_balanced_memory", lambda *_, **__: room)
    if not fits:
        with pytest.raises(RequestError, match="do not fit on the GPUs"):
            sharding._balanced(folder, torch.float32)
        return
    placed = sharding._balanced(folder, torch.float32)
    assert set(placed.values()) <= {0, 1}
