"""Recall of the indexer against the definitions of the trace's metrics, and the command's table."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from click.testing import CliRunner
from torch import Tensor

from model.checkpoint.weights import save_model
from model.network.attention import attention_weights
from model.network.decision import Selection
from model.trace import sparse
from model.train.evaluation.context import LongText
from model.train.evaluation.sparsity import Recall, bits_per_byte, measure_recall, sparsity_command
from tests.model.train.corpora import write_tiny_shards
from tests.models import random_model, tiny_config

SPARSE = {"model_type": "deepseek_v32", "index_heads": 4, "index_head_dim": 12, "index_topk": 6}


def text(length: int, seed: int = 0) -> LongText:
    ids = np.random.default_rng(seed).integers(5, 300, length)
    return LongText(ids.tolist(), np.ones(length, int))


def test_recall_is_that_of_the_metrics() -> None:
    model = random_model(tiny_config(num_layers=2, **SPARSE))
    expected: dict[int, list[float]] = {}

    class Spy(Recall):
        def attention(
            self, layer: int, query_BHTQ: Tensor, key_BHSQ: Tensor, scale: float, selection: Selection | None
        ) -> None:
            dense = xr.DataArray(attention_weights(query_BHTQ, key_BHSQ, scale)[0], dims=("head", "query", "key"))
            assert self._selection is not None
            kept = xr.DataArray(self._selection.kept_BTS[0].numpy(), dims=("query", "key"))
            near = np.abs(np.subtract.outer(np.arange(21), np.arange(21)) + 0.0)
            last = xr.DataArray(np.tri(21, dtype=bool) & (near < 6), dims=("query", "key"))
            places = sparse.choosing(kept)
            assert places.tolist() == list(range(6, 21))
            for mask in (kept, sparse.best_at(dense, 6), last):
                mean = float(sparse.recall(dense, mask).mean("head").isel(query=places).mean())
                expected.setdefault(layer, []).append(mean)

    with torch.no_grad():
        model.hidden(torch.tensor([[0, *text(20).token_ids]]), tape=Spy())
    found = measure_recall(model, [text(20)])
    assert list(found) == [0, 1]
    for layer, shares in found.items():
        assert shares == pytest.approx(expected[layer], rel=1e-5)
        assert shares[1] > shares[0]
        assert shares[1] > shares[2]


def test_no_query_that_chooses_gives_no_number() -> None:
    model = random_model(tiny_config(num_layers=1, num_dense_layers=1, **SPARSE))
    assert np.isnan(measure_recall(model, [text(5)])[0]).all()


def test_bits_are_those_of_all_texts_together() -> None:
    model = random_model(tiny_config(num_layers=1, num_dense_layers=1))
    one, two = (bits_per_byte(model, [each]) for each in (text(10), text(30, 1)))
    assert bits_per_byte(model, [text(10), text(30, 1)]) == pytest.approx((10 * one + 30 * two) / 40)


def test_command_compares_with_another_model(tmp_path: Path) -> None:
    shards = write_tiny_shards(tmp_path)
    for name, changes in (("sparse", SPARSE), ("dense", {})):
        save_model(random_model(tiny_config(num_layers=2, max_positions=64, **changes)), tmp_path / name, torch.float32)
        (tmp_path / name / "tokenizer.json").write_bytes((shards / "tokenizer.json").read_bytes())
    arguments = ["--heldout", str(tmp_path / "corpus"), "--window", "32", "--per-stream", "1"]
    names = [str(tmp_path / name) for name in ("sparse", "dense")]
    result = CliRunner().invoke(sparsity_command, [names[0], *arguments, "--dense", names[1]], catch_exceptions=False)
    assert result.exit_code == 0
    assert "6 keys selected of at most 32" in result.output
    assert "| every key selected |" in result.output
    assert f"| {names[1]} |" in result.output
    refused = CliRunner().invoke(sparsity_command, [names[1], *arguments])
    assert refused.exit_code == 2
    assert "has no indexers" in refused.output
