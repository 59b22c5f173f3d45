"""A run from disk is the run in memory, to the bit; it reads what it uses, and goes on where it was stopped."""

import gc
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from model.checkpoint import memory
from model.checkpoint.device import choose_device
from model.checkpoint.header import CheckpointError
from model.checkpoint.weights import save_model, weight_bytes
from model.network.config import ModelConfig
from model.run.engine import Engine
from model.run.from_disk import Progress, Stopped
from model.run.interventions import GateTemperature, KnockOut, Replay, ScoreThreshold
from model.run.partial import Partial
from model.run.request import Capture, RequestError, RunRequest
from model.trace.trace import Trace
from tests.models import random_model, tiny_config

EVERYTHING = Capture(frozenset({"router", "attention", "inputs", "logits"}))
SPARSE = {"index_heads": 4, "index_head_dim": 12, "index_topk": 4}
SHAPES = {
    "V3": tiny_config(),
    "tied head": tiny_config(tie_embeddings=True),
    "V3.2": tiny_config(model_type="deepseek_v32", **SPARSE),
    "GLM": tiny_config(model_type="glm_moe_dsa", indexer_types=("full", "shared", "full", "shared", "full"), **SPARSE),
    "V2": tiny_config(
        model_type="deepseek_v2", scoring="softmax", selection="group_limited_greedy", normalise_weights=False
    ),
    "attention bias": tiny_config(attention_bias=True),
    "V3 with drafts": tiny_config(has_mtp=True),
    "V3.2 with drafts": tiny_config(model_type="deepseek_v32", has_mtp=True, **SPARSE),
}


def request_of(config: ModelConfig, num_tokens: int = 12, **changes: object) -> RunRequest:
    ids = np.random.default_rng(1).integers(0, config.vocab_size, num_tokens).tolist()
    variables = EVERYTHING.variables | ({"indexer"} if config.is_sparse else set())
    variables |= {"drafts"} if config.has_mtp else set()
    return RunRequest(**{"token_ids": tuple(ids), "capture": Capture(frozenset(variables))} | changes)


def written(config: ModelConfig, folder: Path, **how: object) -> Path:
    save_model(random_model(config), folder, torch.float32, **how)  # type: ignore[arg-type]
    return folder


def same(one: Trace, other: Trace) -> bool:
    assert set(one.data.data_vars) == set(other.data.data_vars)
    return all(np.array_equal(one.data[n].values, other.data[n].values, equal_nan=one.data[n].dtype.kind == "f")
               for n in one.data.data_vars)  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
def test_is_the_run_in_memory_to_the_bit(config: ModelConfig, dtype: str, tmp_path: Path) -> None:
    folder = written(config, tmp_path / "model", max_shard_bytes=40_000)
    request = request_of(config)
    assert same(
        Engine.load(folder, "cpu", dtype).run(request), Engine.from_disk(folder, device="cpu", dtype=dtype).run(request)
    )


def test_the_same_in_the_layout_for_wide_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    folder = tmp_path / "model"
    save_model(random_model(SHAPES["V3.2"]), folder, torch.bfloat16, fp8_scales=torch.float32)
    request = request_of(SHAPES["V3.2"])
    assert same(Engine.load(folder, "cpu").run(request), Engine.from_disk(folder, device="cpu").run(request))


def test_one_token_and_interventions_too(tmp_path: Path) -> None:
    folder = written(tiny_config(), tmp_path / "model")
    replay = Replay.of(Engine.load(folder, "cpu").run(request_of(tiny_config(), num_tokens=7)), (1, 3))
    for request in (
        request_of(tiny_config(), num_tokens=1),
        request_of(tiny_config(), num_tokens=1, interventions=(replay,)),
        request_of(tiny_config(), interventions=(KnockOut(2, 3), KnockOut(4, 0))),
        request_of(tiny_config(), interventions=(replay, GateTemperature(3.0, 2), ScoreThreshold(0.6, 4))),
    ):
        assert same(Engine.load(folder, "cpu").run(request), Engine.from_disk(folder, device="cpu").run(request))


def test_reads_only_the_experts_that_were_hit_and_used_rows(tmp_path: Path) -> None:
    config = tiny_config()
    folder = written(config, tmp_path / "model")
    engine = Engine.from_disk(folder, device="cpu")
    trace = engine.run(request_of(config, num_tokens=3))
    assert engine.disk is not None
    by_layer = trace.data["expert_id"].values.transpose(1, 0, 2)
    num_hit = sum(len(set(ids.flat)) for ids in by_layer)
    one_expert = 3 * config.hidden_size * config.expert_width
    unused_experts = len(config.moe_layers) * config.num_experts - num_hit
    rows = len(set(trace.data["token_id"].values.tolist()))
    total = sum(tensor.num_bytes for tensor in engine.disk.folder.tensors.values())
    unused = 4 * (unused_experts * one_expert + (config.vocab_size - rows) * config.hidden_size)
    assert engine.disk.weights.tensors.bytes_read == total - unused


def test_stopped_run_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    config = SHAPES["GLM"]
    folder, request, cancel = written(config, tmp_path / "model"), request_of(config), threading.Event()
    first = Engine.from_disk(folder, device="cpu")
    kept = first.open_partial(tmp_path / "partial", request)
    with pytest.raises(Stopped, match="stopped after 2 of 5 layers"):
        first.run(request, cancel, lambda progress: cancel.set() if progress.layers_done == 2 else None, kept)
    second, seen = Engine.from_disk(folder, device="cpu"), []
    partial = second.open_partial(tmp_path / "partial", request)
    assert partial.layers_done == 2
    assert same(
        second.run(request, None, lambda progress: seen.append(progress.layers_done), partial),
        Engine.load(folder, "cpu").run(request),
    )
    assert seen == [1, 2, 3]
    partial.remove()
    assert not (tmp_path / "partial").exists()


def test_engine_stays_on_the_disk_when_the_memory_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(tiny_config(), tmp_path / "model")
    assert Engine.fitting(folder).disk is None
    monkeypatch.setattr("model.run.engine.memory_bytes", lambda: 100_000)
    assert Engine.fitting(folder).disk is not None


def test_engine_stays_off_a_gpu_without_room_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(tiny_config(), tmp_path / "model")
    needed = weight_bytes(tiny_config(), torch.float32)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(memory, "free_bytes", lambda gpu: 2 * needed)
    assert choose_device("auto", needed).type == "cuda"
    monkeypatch.setattr(memory, "free_bytes", lambda gpu: needed)
    for engine in (Engine.fitting(folder), Engine.load(folder)):
        assert engine.device.type == "cpu"
        assert engine.disk is None


def test_runs_at_once_are_those_run_alone(tmp_path: Path) -> None:
    config = SHAPES["V3.2 with drafts"]
    folder = written(config, tmp_path / "model")
    plain = Capture(EVERYTHING.variables)
    requests = [request_of(config, n, **how) for n, how in ((12, {}), (5, {"capture": plain}), (9, {}), (3, {}))]
    alone = [Engine.from_disk(folder, device="cpu").run(request) for request in requests]
    engine = Engine.from_disk(folder, device="cpu")
    with ThreadPoolExecutor(len(requests)) as pool:
        at_once = list(pool.map(engine.run, requests))
    assert all(map(same, at_once, alone))


def test_a_run_sees_nothing_of_one_that_begins_before_its_trace_is_made(tmp_path: Path) -> None:
    config = SHAPES["V3 with drafts"]
    folder = written(config, tmp_path / "model")
    engine, first, second = Engine.from_disk(folder, device="cpu"), request_of(config), request_of(config, 5)
    kept = engine.open_partial(tmp_path / "partial", first)
    steps = engine.stream(first, partial=kept)
    next(steps)
    assert kept.layers_done == config.num_layers
    between = engine.run(second)  # keeps no layers, and takes none of those kept
    with pytest.raises(StopIteration) as ended:
        next(steps)
    alone = Engine.load(folder, "cpu")
    assert same(ended.value.value, alone.run(first))
    assert same(between, alone.run(second))
    assert {parameter.device.type for parameter in engine.model.parameters()} == {"meta"}


def test_engine_that_was_stopped_runs_again(tmp_path: Path) -> None:
    config, cancel = tiny_config(), threading.Event()
    engine = Engine.from_disk(written(config, tmp_path / "model"), device="cpu")
    with pytest.raises(Stopped):
        engine.run(request_of(config), cancel, lambda progress: cancel.set())
    assert engine.disk is not None
    before = engine.disk.weights.tensors.bytes_read
    fresh = Engine.from_disk(tmp_path / "model", device="cpu")
    assert same(engine.run(request_of(config)), fresh.run(request_of(config)))
    assert fresh.disk is not None
    assert engine.disk.weights.tensors.bytes_read - before <= 1.5 * fresh.disk.weights.tensors.bytes_read
    assert engine.disk.weights.tensors._coming_bytes == 0


def test_one_that_waits_for_another_is_told_and_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.run.engine.SECONDS_BETWEEN_CHECKS", 0.01)
    engine = Engine.from_disk(written(tiny_config(), tmp_path / "model"), device="cpu")
    began, go_on, cancel, seen = threading.Event(), threading.Event(), threading.Event(), []

    def slowly(progress: Progress) -> None:
        began.set()
        assert go_on.wait(30)

    def look(progress: Progress) -> None:
        seen.append(progress.layers_done)
        cancel.set()

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(engine.run, request_of(tiny_config()), None, slowly)
        assert began.wait(30)
        with pytest.raises(Stopped, match="stopped before its turn came"):
            engine.run(request_of(tiny_config()), cancel, look)
        assert not first.done()
        go_on.set()
    assert same(first.result(), engine.run(request_of(tiny_config())))
    assert seen == [0]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are listed on Linux only")
def test_files_are_closed_when_nobody_holds_the_engine_any_more(tmp_path: Path) -> None:
    config, listed = tiny_config(has_mtp=True), Path("/proc/self/fd")
    engine = Engine.from_disk(written(config, tmp_path / "model"), device="cpu")

    def num_open() -> int:
        return sum(str(tmp_path) in os.readlink(path) for path in listed.iterdir() if path.is_symlink())

    gc.disable()  # frozen objects are never collected, so that a circle would stay
    try:
        steps = engine.stream(request_of(config))
        next(steps)
        del engine
        assert num_open() == 1
        steps.close()
        del steps
        assert num_open() == 0
    finally:
        gc.enable()


def test_refusals(tmp_path: Path) -> None:
    config = tiny_config()
    engine = Engine.from_disk(written(config, tmp_path / "model"), device="cpu")
    with pytest.raises(RequestError, match="for a prompt only; ask for 0 new tokens"):
        engine.run(request_of(config, max_new_tokens=1))
    engine.open_partial(tmp_path / "partial", request_of(config))
    with pytest.raises(RequestError, match="holds a stopped run of something else"):
        engine.open_partial(tmp_path / "partial", request_of(config, num_tokens=4))
    (tmp_path / "mine").mkdir()
    with pytest.raises(RequestError, match="is not the folder of a stopped run"):
        Partial(tmp_path / "mine", {})


def test_damaged_layer_is_said(tmp_path: Path) -> None:
    config = tiny_config()
    engine, request = Engine.from_disk(written(config, tmp_path / "model"), device="cpu"), request_of(config)
    engine.open_partial(tmp_path / "partial", request)
    (tmp_path / "partial" / "layer-00000.safetensors").write_bytes(b"nothing")
    partial = engine.open_partial(tmp_path / "partial", request)
    with pytest.raises(RequestError, match=r"layer-00000.safetensors is damaged"):
        engine.run(request, partial=partial)


def test_a_full_disk_keeps_the_layers_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("model.run.partial.save_file", full_disk)
    partial = Partial(tmp_path / "partial", {})
    with pytest.raises(OSError, match=r"No space left on device.*layer-00000.safetensors"):
        partial.write(0, torch.zeros(1, 2, 3), None, {})
    assert partial.layers_done == 0
    assert [path.name for path in (tmp_path / "partial").iterdir()] == ["run.json"]


@pytest.mark.parametrize("what", ["truncated", "replaced", "deleted"])
def test_weights_that_change_during_a_run_end_it_in_one_line_or_not_at_all(tmp_path: Path, what: str) -> None:
    config = tiny_config()
    folder = written(config, tmp_path / "model")
    engine, request, path = Engine.from_disk(folder, device="cpu"), request_of(config), folder / "model.safetensors"
    healthy = engine.run(request)

    def change(progress: Progress) -> None:
        if progress.layers_done == 2 and what == "truncated":
            os.truncate(path, 1_000)
        elif progress.layers_done == 2 and what == "replaced":
            (folder / "new").write_bytes(b"nothing")
            (folder / "new").replace(path)
        elif progress.layers_done == 2:
            path.unlink()

    if what == "truncated":
        with pytest.raises(CheckpointError, match=r"model\.safetensors ended before tensor .* did; it was truncated"):
            engine.run(request, None, change)
        return
    assert same(engine.run(request, None, change), healthy)
