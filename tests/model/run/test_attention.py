"""Attention after the run, block by block, against full matrices."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from model.checkpoint.weights import save_model
from model.run import attention as module
from model.run.attention import LayerAttention, head_attention
from model.run.engine import Engine
from model.run.head_vectors import has_weights_of
from model.run.request import Capture, RequestError, RunRequest
from model.trace.attention import head_figures
from model.trace.cells import Window, cells, whole
from model.trace.trace import Trace
from tests.model.trace.test_cells import windows
from tests.models import random_model, tiny_config

NUM_TOKENS = 37
EVERYTHING = Capture(frozenset({"attention", "inputs"}))
SPARSE = {"model_type": "deepseek_v32", "index_heads": 2, "index_head_dim": 16, "index_topk": 8}


def engine_of(folder: Path, **changes: object) -> Engine:
    save_model(random_model(tiny_config(eos_id=None, **changes)), folder, torch.float32)
    return Engine.load(folder, device="cpu")


def run(engine: Engine, capture: Capture = EVERYTHING) -> Trace:
    ids = np.random.default_rng(0).integers(1, 320, NUM_TOKENS).tolist()
    return engine.run(RunRequest(token_ids=tuple(ids), capture=capture))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return engine_of(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def trace(engine: Engine) -> Trace:
    return run(engine)


@pytest.fixture(params=[1, 100, 700, 1 << 20])
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Blocks of one query, of some, and of all."""
    monkeypatch.setattr(module, "VALUES_AT_ONCE", request.param)
    return request.param


@given(window=windows(NUM_TOKENS), max_cells=st.integers(1, 40), at_once=st.integers(1, 1500), head=st.integers(0, 3))
def test_cells_equal_those_of_the_full_matrix(
    engine: Engine, trace: Trace, window: Window, max_cells: int, at_once: int, head: int
) -> None:
    full = trace.data["attention"].sel(attention_layer=3, head=head, drop=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "VALUES_AT_ONCE", at_once)
        found = LayerAttention(engine, trace, 3).cells(head, window, max_cells)
    xr.testing.assert_allclose(found, cells(full, window, max_cells), atol=1e-6)


def test_rows_add_up_to_one_in_cells(engine: Engine, trace: Trace) -> None:
    seen = LayerAttention(engine, trace, 2).cells(1, max_cells=5)
    assert float((seen["mean"] * seen["pairs"]).sum()) == pytest.approx(NUM_TOKENS, rel=1e-5)


@pytest.mark.parametrize("query", [0, 1, 20, NUM_TOKENS - 1])
def test_a_row_ends_at_its_query(engine: Engine, trace: Trace, query: int) -> None:
    row = LayerAttention(engine, trace, 1).row(2, query)
    assert np.allclose(row, trace.data["attention"].sel(attention_layer=1, head=2)[query, : query + 1], atol=1e-6)


def test_overview_equals_the_full_matrices(engine: Engine, trace: Trace, at_once: int) -> None:
    full = trace.data["attention"].sel(attention_layer=4, head=[3, 0], drop=True)
    small, figures = LayerAttention(engine, trace, 4).overview([3, 0], max_cells=6)
    xr.testing.assert_allclose(small, cells(full, whole(NUM_TOKENS), 6)["largest"], atol=1e-6)
    xr.testing.assert_allclose(figures, head_figures(full).reset_coords(drop=True), atol=1e-5)


def test_mean_of_heads(engine: Engine, trace: Trace, at_once: int) -> None:
    full = trace.data["attention"].sel(attention_layer=0, drop=True)
    assert np.allclose(LayerAttention(engine, trace, 0).mean_of_heads(), full.mean("head"), atol=1e-6)


@pytest.mark.parametrize("changes", [{}, {"q_lora_rank": None}, {"attention_bias": True}])
def test_parts_of_the_score_add_up_to_it(tmp_path: Path, changes: dict, at_once: int) -> None:
    engine = engine_of(tmp_path, **changes)
    trace = run(engine)
    content, position = LayerAttention(engine, trace, 3).part_cells(1, max_cells=NUM_TOKENS)
    scores = np.nan_to_num((content + position)["largest"].values, nan=-np.inf)
    expected = trace.data["attention"].sel(attention_layer=3, head=1)
    assert np.allclose(torch.tensor(scores).softmax(-1).numpy(), expected, atol=1e-5)


@given(window=windows(NUM_TOKENS), max_cells=st.integers(1, 40))
def test_cells_of_the_parts(engine: Engine, trace: Trace, window: Window, max_cells: int) -> None:
    attention = LayerAttention(engine, trace, 3)
    for found, full in zip(attention.part_cells(0, window, max_cells), attention.part_cells(0), strict=True):
        values = full["largest"].drop_vars(["query", "query_end", "key", "key_end"])
        xr.testing.assert_allclose(found["largest"], cells(values, window, max_cells)["largest"], atol=1e-5)
        xr.testing.assert_allclose(found["mean"], cells(values, window, max_cells)["mean"], atol=1e-5)


def mean_by_distance(values: np.ndarray) -> np.ndarray:
    """Mean of [query, key] over the pairs that lie equally far apart, [distance]."""
    return np.array([np.diagonal(values, -distance).mean() for distance in range(len(values))])


@pytest.mark.parametrize("max_bins", [1, 5, 512])
def test_parts_by_distance_equal_the_means_over_pairs(engine: Engine, trace: Trace, max_bins: int) -> None:
    attention = LayerAttention(engine, trace, 2)
    found = attention.parts_by_distance([1, 3], max_bins)
    pairs = NUM_TOKENS - np.arange(NUM_TOKENS)
    for head in (1, 3):
        for name, part in zip(("content", "position"), attention.part_cells(head), strict=True):
            means, starts = mean_by_distance(part["mean"].values), found["distance"].values
            binned = np.add.reduceat(means * pairs, starts) / np.add.reduceat(pairs, starts)
            assert np.allclose(found.sel(part=name, head=head), binned, atol=1e-5)


def test_full_heads_equal_the_recorded_ones(engine: Engine, trace: Trace) -> None:
    for layer in (0, 3):
        recorded = trace.data["attention"].sel(attention_layer=layer)
        assert np.allclose(head_attention(engine, trace, layer), recorded, atol=1e-5)
        assert np.allclose(head_attention(engine, trace, layer, [2]), recorded.sel(head=[2]), atol=1e-5)


def test_bfloat16_inputs_are_read_from_their_bits(engine: Engine) -> None:
    half = Engine.load(engine.folder, device="cpu", dtype="bfloat16")
    trace = run(half)
    assert trace.data["layer_input"].dtype == np.uint16
    recorded = trace.data["attention"].sel(attention_layer=0)
    assert np.allclose(head_attention(half, trace, 0), recorded, atol=2e-2)


def test_a_sparse_layer_reads_what_its_indexer_kept(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, **SPARSE)
    trace = run(engine, Capture(frozenset({"attention", "inputs", "indexer"})))
    found = LayerAttention(engine, trace, 2).cells(1, max_cells=NUM_TOKENS)["mean"]
    recorded = trace.data["attention"].sel(attention_layer=2, head=1)
    assert np.allclose(np.nan_to_num(found), recorded, atol=1e-5)
    assert not np.allclose(head_attention(engine, trace, 2, [1])[0], recorded, atol=1e-3)
    _, figures = LayerAttention(engine, trace, 2).overview([1], max_cells=6)
    full = trace.data["attention"].sel(attention_layer=2, head=[1], drop=True)
    xr.testing.assert_allclose(figures, head_figures(full, 8).reset_coords(drop=True), atol=1e-5)
    with pytest.raises(RequestError, match="capture 'indexer'"):
        LayerAttention(engine, run(engine), 2)


def test_what_is_missing_is_said(engine: Engine, trace: Trace) -> None:
    with pytest.raises(RequestError, match="capture 'inputs'"):
        LayerAttention(engine, run(engine, Capture(frozenset())), 0)
    for sum_of_weights in ("0" * 64, None):
        other = dataclasses.replace(trace, model=trace.model | {"weights_sha256": sum_of_weights})
        assert not has_weights_of(engine, other)
        with pytest.raises(RequestError, match="other weights"):
            LayerAttention(engine, other, 0)


def test_a_context_beyond_the_training_has_to_be_asked_for(engine: Engine) -> None:
    request = RunRequest(token_ids=(1,) * 300, capture=Capture(frozenset({"inputs"})))
    with pytest.raises(RequestError, match="context of 256"):
        engine.run(request)
    longer = Engine.load(engine.folder, device="cpu", context=300)
    assert longer.run(request).num_tokens == 300
    assert LayerAttention(longer, longer.run(request), 0).cells(0, max_cells=64)["pairs"].shape == (60, 60)


def test_sums_are_made_on_the_cpu_where_the_device_has_no_double_precision() -> None:
    class OnMps(torch.Tensor):
        device = torch.device("mps")  # type: ignore[assignment]

        def cpu(self) -> torch.Tensor:
            return self.as_subclass(torch.Tensor)

        def double(self) -> torch.Tensor:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    query, key = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(0))
    expected = module._sums_by_distance(query, key)
    assert torch.equal(module._sums_by_distance(query.as_subclass(OnMps), key.as_subclass(OnMps)), expected)
