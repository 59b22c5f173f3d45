"""Sparse attention: the worked example, what it equals when every key is kept, and that its scores can be trained."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.network.attention import attention_weights
from model.network.cache import LatentCache
from model.network.config import ModelConfig
from model.network.indexer import Indexer, select
from model.network.tape import Tape
from model.network.transformer import Transformer
from tests.closeness import ROUNDING, relative_error
from tests.models import random_model, tiny_config

CPU = torch.device("cpu")


def sparse_config(top_k: int, **changes: object) -> ModelConfig:
    sizes = {"index_heads": 16, "index_head_dim": 12, "index_topk": top_k}
    return tiny_config(model_type="deepseek_v32", **sizes | changes)


def ids(count: int) -> torch.Tensor:
    return torch.randint(0, 320, (1, count), generator=torch.Generator().manual_seed(3))


class SelectionTape(Tape):
    def __init__(self) -> None:
        self.kept, self.scores = [], []

    def selection(self, _layer: int, selection) -> None:
        self.kept.append(selection.kept_BTS[0])
        self.scores.append(selection.scores_BTS[0])


def test_worked_example() -> None:
    """Two heads of width 2, three keys; the last query."""
    config = sparse_config(2, index_heads=2, index_head_dim=2, rope_head_dim=2)
    query = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(1, 1, 2, 2)
    key = torch.tensor([[[1.0, -1.0], [2.0, 1.0], [-1.0, 3.0]]])
    weights = torch.tensor([[[0.5, -0.25]]]) * 2**-0.5  # 1 / sqrt(index heads) is in the weights
    scores = Indexer(config, 0).score(query, key, weights)
    assert scores[0, 0].tolist() == pytest.approx([0.25, 0.375, -0.375], abs=1e-6)
    assert select(scores, 2).kept_BTS[0, 0].tolist() == [True, True, False]


@pytest.mark.parametrize("top_k", [12, 13, 500])
def test_is_dense_attention_to_the_bit_when_every_key_is_kept(top_k: int) -> None:
    sparse = random_model(sparse_config(top_k))
    dense = Transformer(dataclasses.replace(sparse.config, model_type="deepseek_v3"))
    dense.load_state_dict(sparse.state_dict(), strict=False)
    with torch.inference_mode():
        assert torch.equal(sparse(ids(12)), dense.eval()(ids(12)))
        caches = [LatentCache(model.config, 12, CPU, torch.float32) for model in (sparse, dense)]
        for position in range(12):
            token = ids(12)[:, position : position + 1]
            assert torch.equal(sparse(token, caches[0]), dense(token, caches[1]))


@pytest.mark.parametrize("sizes", [(1,), (7, 1), (5, 5)])
def test_the_cache_changes_neither_selection_nor_logits(sizes: tuple[int, ...]) -> None:
    model, tokens = random_model(sparse_config(4)), ids(20)
    with torch.inference_mode():
        whole, pieces = SelectionTape(), SelectionTape()
        at_once = model(tokens, tape=whole)
        cache, start, logits = LatentCache(model.config, 20, CPU, torch.float32), 0, []
        for size in (*sizes, *[sizes[-1]] * 20):
            if start < 20:
                logits.append(model(tokens[:, start : start + size], cache, pieces))
            start += size
    assert relative_error(torch.cat(logits, 1), at_once) <= ROUNDING
    layers = model.config.num_layers
    for layer in range(layers):
        rows = [row for part in pieces.kept[layer::layers] for row in part]
        for position, row in enumerate(rows):
            assert torch.equal(row, whole.kept[layer][position, : len(row)])


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 1000))
def test_a_query_keeps_its_best_keys_and_none_after_it(num_tokens: int, top_k: int, seed: int) -> None:
    scores = torch.randn(1, num_tokens, num_tokens, generator=torch.Generator().manual_seed(seed))
    visible = torch.ones_like(scores, dtype=torch.bool).tril()
    selection = select(scores.masked_fill(~visible, -torch.inf), top_k)
    kept = selection.kept_BTS
    assert not (kept & ~visible).any()
    assert kept.sum(-1)[0].tolist() == [min(top_k, t + 1) for t in range(num_tokens)]
    worst_kept = selection.scores_BTS.masked_fill(~kept, torch.inf).amin(-1)
    best_left = selection.scores_BTS.masked_fill(kept, -torch.inf).amax(-1)
    assert (worst_kept >= best_left).all()


def test_scores_in_blocks_of_queries_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, blocked = random_model(sparse_config(4)), SelectionTape()
    whole = SelectionTape()
    with torch.inference_mode():
        model(ids(20), tape=whole)
        monkeypatch.setattr("model.network.indexer.VALUES_AT_ONCE", 16 * 20 * 3)
        model(ids(20), tape=blocked)
    for one, other in zip(whole.scores, blocked.scores, strict=True):
        assert relative_error(other, one) <= ROUNDING


def test_every_weight_of_the_indexer_gets_a_gradient() -> None:
    model, tape = random_model(sparse_config(4)), SelectionTape()
    model(ids(20), tape=tape)
    sum(scores.masked_fill(scores == -torch.inf, 0).square().sum() for scores in tape.scores).backward()
    for name, parameter in model.named_parameters():
        if "indexer" in name:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_attention_is_zero_on_keys_that_were_not_selected() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 2, 9, 4, generator=generator) for _ in range(2))
    scores = torch.randn(1, 9, 9, generator=generator).masked_fill(
        ~torch.ones(9, 9, dtype=torch.bool).tril(), -torch.inf
    )
    selection = select(scores, 3)
    weights = attention_weights(query, key, 0.5, selection)
    assert (weights.masked_select(~selection.kept_BTS[:, None].expand_as(weights)) == 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 2, 9))


def hadamard(width: int) -> torch.Tensor:
    """Sylvester's matrix of a power of two, scaled to keep lengths, fp64."""
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while len(matrix) < width:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / width**0.5


def test_turning_queries_and_keys_by_a_hadamard_matrix_changes_no_choice() -> None:
    """The released code rotates queries and keys for its 8-bit products; in exact arithmetic the scores stay equal."""
    generator = torch.Generator().manual_seed(0)
    query, key, weights = (
        torch.randn(shape, dtype=torch.float64, generator=generator) for shape in ((9, 6, 16), (9, 16), (9, 6))
    )
    turn = hadamard(16)
    assert torch.allclose(turn @ turn.T, torch.eye(16, dtype=torch.float64))

    def scores(query_TJI: torch.Tensor, key_SI: torch.Tensor) -> torch.Tensor:
        return torch.einsum("tj,tjs->ts", weights, torch.einsum("tji,si->tjs", query_TJI, key_SI).relu())

    plain, turned = scores(query, key), scores(query @ turn, key @ turn)
    torch.testing.assert_close(plain, turned, atol=1e-12, rtol=0)
    assert select(plain[None], 4).key_ids_BTK.equal(select(turned[None], 4).key_ids_BTK)


def test_scores_are_fp32_under_autocast_too() -> None:
    generator = torch.Generator().manual_seed(4)
    query, key = (torch.randn(1, 9, *rest, generator=generator) for rest in ((16, 12), (12,)))
    weights, indexer = torch.randn(1, 9, 16, generator=generator), Indexer(sparse_config(4), 0)
    with torch.autocast("cpu", torch.bfloat16):
        scores = indexer.score(query, key, weights)
    assert torch.equal(scores, indexer.score(query, key, weights))
