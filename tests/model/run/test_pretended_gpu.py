"""Runs on a pretended GPU (tests/pretended_device.py) mix no devices, and give the CPU's text, ids and numbers."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import xarray as xr

from model.checkpoint.weights import save_model
from model.run.attention import LayerAttention, head_attention
from model.run.decode_cost import decode_cost
from model.run.engine import Engine
from model.run.from_disk import Stopped
from model.run.importance import importance
from model.run.interventions import (
    BiasOff,
    ForceExpert,
    GateTemperature,
    GroupLimitOff,
    Intervention,
    KnockOut,
    Replay,
    ScoreThreshold,
    TopK,
)
from model.run.request import Capture, RunRequest
from model.run.sharding import load_placed
from tests.closeness import ROUNDING, assert_same, relative_error
from tests.model.run.test_sharding import placement
from tests.models import random_model, tiny_config
from tests.pretended_device import pretend

pretend()
LAYERS = 3
SPARSE = {
    "model_type": "deepseek_v32", "index_heads": 2, "index_head_dim": 12, "index_topk": 4, "tie_embeddings": True,
}  # fmt: skip
IDS = (0, 7, 101, 33, 250, 9, 64)


class Pair(NamedTuple):
    """The same model on the CPU and on a pretended GPU."""

    cpu: Engine
    gpu: Engine

    def same(self, request: RunRequest) -> xr.Dataset:
        """Run the request on both, compare, and return the data of the CPU."""
        one, other = self.gpu.run(request), self.cpu.run(request)
        assert one.tokens == other.tokens
        assert_same(one.data, other.data)
        return other.data


@pytest.fixture(scope="module", params=[{}, SPARSE], ids=["V3", "V3.2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tiny")
    config = tiny_config(eos_id=None, has_mtp=True, num_layers=LAYERS, **request.param)
    save_model(random_model(config), made, torch.float32)
    return made


@pytest.fixture(scope="module")
def pair(folder: Path) -> Pair:
    return Pair(*(Engine.load(folder, device=device) for device in ("cpu", "pretended")))


def everything(engine: Engine, **changes: object) -> RunRequest:
    variables = {"router", "attention", "inputs", "logits", "drafts"} | (
        {"indexer"} if engine.config.is_sparse else set()
    )
    return RunRequest(**{"token_ids": IDS, "capture": Capture(frozenset(variables))} | changes)  # type: ignore[arg-type]


def test_run_with_all_captures_and_drafts(pair: Pair) -> None:
    sampled = {"temperature": 1.0, "top_k": 50, "top_p": 0.9, "seed": 3}
    data = pair.same(everything(pair.cpu, max_new_tokens=3, verify_drafts=True, **sampled))
    assert data.sizes["token"] == len(IDS) + 3
    assert data["draft_tried"].any()


INTERVENTIONS: dict[str, tuple[Intervention, ...]] = {
    "knocked out and forced": (KnockOut(1, 3), KnockOut(2, 2), ForceExpert(2, 7)),
    "top-k": (TopK(2),),
    "bias and groups off": (BiasOff(), GroupLimitOff()),
    "temperature and threshold": (GateTemperature(2.0), ScoreThreshold(0.6)),
}


@pytest.mark.parametrize("changes", INTERVENTIONS.values(), ids=INTERVENTIONS.keys())
def test_interventions(pair: Pair, changes: tuple[Intervention, ...]) -> None:
    pair.same(RunRequest(token_ids=IDS, max_new_tokens=1, interventions=changes))


def test_replay_of_the_cpus_routing(pair: Pair) -> None:
    replay = Replay.of(pair.cpu.run(RunRequest(token_ids=IDS[:4])))
    pair.same(RunRequest(token_ids=IDS, max_new_tokens=1, interventions=(replay,)))


def test_importance_map(pair: Pair) -> None:
    (*_, one), (*_, other) = (importance(engine, IDS) for engine in (pair.gpu, pair.cpu))
    assert_same(one.effects[["chosen_by", "rerouted"]], other.effects[["chosen_by", "rerouted"]])
    for name in ("logprob_change", "kl"):  # differences of logits: their rounding is that of the logits
        assert relative_error(one.effects[name], other.effects[name], size=1.0) <= ROUNDING


HEADS: dict[str, Callable[[LayerAttention], xr.Dataset]] = {
    "cells": lambda attention: attention.cells(1, max_cells=4),
    "row": lambda attention: attention.row(0, 3).to_dataset(name="row"),
    "thumbnails": lambda attention: attention.overview([0, 2], 4)[0].to_dataset(name="largest"),
    "figures": lambda attention: attention.overview([0, 2], 4)[1],
    "mean of heads": lambda attention: attention.mean_of_heads().to_dataset(name="mean"),
    "parts": lambda attention: attention.part_cells(1, max_cells=4)[1].fillna(0),
    "parts by distance": lambda attention: attention.parts_by_distance([0, 3]).to_dataset(name="parts"),
}


@pytest.mark.parametrize("read", HEADS.values(), ids=HEADS.keys())
def test_heads_on_demand(pair: Pair, read: Callable[[LayerAttention], xr.Dataset]) -> None:
    trace = pair.cpu.run(everything(pair.cpu))
    assert_same(*(read(LayerAttention(engine, trace, 2)) for engine in (pair.gpu, pair.cpu)))
    dense = [head_attention(engine, trace, 1, [2]).to_dataset(name="dense") for engine in (pair.gpu, pair.cpu)]
    assert_same(*dense)


def test_times_of_a_decoded_token(pair: Pair) -> None:
    if pair.gpu.config.is_sparse:
        assert decode_cost(pair.gpu.model, layer=1, context=8, repeats=1).context == 8


def test_run_from_disk(folder: Path, pair: Pair, tmp_path: Path) -> None:
    """The second run goes on where the first was stopped."""
    engine, cancel, request = Engine.from_disk(folder, device="pretended"), threading.Event(), everything(pair.cpu)
    with pytest.raises(Stopped):
        engine.run(request, cancel, lambda progress: cancel.set(), engine.open_partial(tmp_path / "partial", request))
    resumed = engine.run(request, partial=engine.open_partial(tmp_path / "partial", request))
    assert_same(resumed.data, pair.cpu.run(request).data)


def test_layers_on_two_gpus(folder: Path, pair: Pair) -> None:
    gpus = placement(LAYERS, "pretended:0", "pretended:1")
    if pair.cpu.config.tie_embeddings:  # the head is on the first GPU, the last layer on the second
        del gpus["head"]
    spread = Engine(load_placed(folder, gpus, torch.float32), None, "spread", folder)
    assert {str(parameter.device) for parameter in spread.model.parameters()} == set(gpus.values())
    both = Pair(pair.cpu, spread)
    data = both.same(everything(pair.cpu, max_new_tokens=1, interventions=(KnockOut(1, 3), KnockOut(2, 2))))
    assert data.sizes["token"] == len(IDS) + 1
    replay = Replay.of(pair.cpu.run(RunRequest(token_ids=IDS)), (2,))
    both.same(RunRequest(token_ids=IDS, interventions=(KnockOut(1, 3), replay)))
