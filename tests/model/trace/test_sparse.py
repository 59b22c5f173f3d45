"""What a selection keeps of dense attention: the worked example, and what holds for any scores."""

import dataclasses

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from model.trace.sparse import (
    best_at,
    choosing,
    core_products,
    held_and_best,
    kept_at,
    lost,
    mean_recall,
    missed,
    num_kept,
    recall,
    recall_by_head,
    recall_over_text,
    selected_at,
)
from tests.traces import random_trace


def labelled(values: np.ndarray) -> xr.DataArray:
    return xr.DataArray(values, dims=("head", "query", "key")[-values.ndim :])


def random_case(seed: int, num_tokens: int, num_heads: int = 3) -> tuple[xr.DataArray, xr.DataArray]:
    """Scores and dense attention."""
    rng = np.random.default_rng(seed)
    future = ~np.tri(num_tokens, dtype=bool)
    scores = np.where(future, -np.inf, rng.normal(size=(num_tokens, num_tokens)))
    raw = np.tril(rng.exponential(size=(num_heads, num_tokens, num_tokens)))
    return labelled(scores), labelled(raw / raw.sum(-1, keepdims=True))


def test_worked_example() -> None:
    """Two heads, three keys, selected {0, 2}: 0.3 + 0.5 of the heads' mean are kept."""
    dense = labelled(
        np.array([[[1, 0, 0], [0.5, 0.5, 0], [0.5, 0.3, 0.2]], [[1, 0, 0], [0.5, 0.5, 0], [0.1, 0.1, 0.8]]])
    )
    scores = labelled(np.array([[1, -np.inf, -np.inf], [1, 0, -np.inf], [1, 0, 2]]))
    kept = kept_at(scores, 2)
    assert kept.values.tolist() == [[True, False, False], [True, True, False], [True, False, True]]
    assert recall(dense, kept).mean("head").values.tolist() == pytest.approx([1, 1, 0.8])
    left_out = missed(dense, kept, 2)
    assert left_out["key"].values.tolist() == [1]
    assert left_out.values.tolist() == pytest.approx([0.2])
    assert choosing(kept).tolist() == [2]


@given(st.integers(0, 99), st.integers(1, 20), st.integers(1, 24))
def test_nothing_beats_the_best_choice_and_no_key_is_of_the_future(seed: int, num_tokens: int, top_k: int) -> None:
    scores, dense = random_case(seed, num_tokens)
    kept, best = kept_at(scores, top_k), best_at(dense, top_k)
    for mask in (kept, best):
        assert not (mask.values & ~np.tri(num_tokens, dtype=bool)).any()
        assert mask.sum("key").values.tolist() == [min(top_k, t + 1) for t in range(num_tokens)]
    held, at_best = recall(dense, kept).mean("head").values, recall(dense, best).mean("head").values
    assert (held <= at_best + 1e-9).all()
    assert (at_best <= 1 + 1e-9).all()
    query = num_tokens - 1
    left_out = missed(dense, kept, query)
    assert float(left_out.sum()) == pytest.approx(1 - held[query], abs=1e-9)
    assert (np.diff(left_out.values) <= 0).all()


def test_keeping_all_loses_nothing() -> None:
    scores, dense = random_case(0, 9)
    kept = kept_at(scores, 9)
    np.testing.assert_allclose(recall(dense, kept).values, 1)
    assert not len(choosing(kept))


def test_products_of_the_released_model() -> None:
    """128 heads, 512 + 64 read for a score and 512 for a value; 64 index heads of width 128."""
    config = {
        "num_attention_heads": 128, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "index_n_heads": 64,
        "index_head_dim": 128,
    }  # fmt: skip
    found = core_products(131_072, 2_048, config)
    assert found["dense attention"] == 131_072 * 128 * 1_088
    assert found["sparse attention"] == 2_048 * 128 * 1_088
    assert found["indexer"] == 131_072 * 64 * 129
    assert core_products(100, 2_048, config)["sparse attention"] == 100 * 128 * 1_088


def two_heads() -> tuple[xr.DataArray, xr.DataArray]:
    """Dense attention of two heads, and a selection of two keys: the last token leaves out key 1."""
    dense = labelled(
        np.array([[[1, 0, 0], [0.5, 0.5, 0], [0.5, 0.3, 0.2]], [[1, 0, 0], [0.5, 0.5, 0], [0.1, 0.1, 0.8]]])
    )
    kept = labelled(np.array([[True, False, False], [True, True, False], [True, True, False]]))
    return dense, kept


def test_query_beside_the_best_choice_of_as_many_keys() -> None:
    """Kept keys 0 and 1 hold 0.8 and 0.2; keys 0 and 2, the best pair for both heads, hold 0.7 and 0.9."""
    dense, kept = two_heads()
    assert num_kept(kept) == 2
    assert held_and_best(dense, kept, 2) == pytest.approx((0.5, 0.8))
    assert held_and_best(dense, kept, 1) == pytest.approx((1, 1))
    assert lost(missed(dense, kept, 2)) == pytest.approx(0.5)


def test_recall_over_the_text_is_known_where_a_key_was_left_out() -> None:
    recalled = recall_over_text(*two_heads(), head=1)
    assert np.isnan(recalled["indexer"].values[:2]).all()
    assert np.isnan(recalled["best"].values[:2]).all()
    assert (recalled["indexer"].values[2], recalled["best"].values[2]) == pytest.approx((0.2, 0.9))


def test_mean_recall_is_of_the_tokens_that_left_out_a_key() -> None:
    dense, kept = two_heads()
    by_head = recall_by_head(dense, kept)
    assert by_head is not None
    assert by_head.values.tolist() == pytest.approx([0.8, 0.2])
    assert mean_recall(dense, kept) == pytest.approx(0.5)
    every = kept.copy(data=np.tri(3, dtype=bool))
    assert (recall_by_head(dense, every), mean_recall(dense, every)) == (None, None)


def test_selection_at_the_models_own_k_is_the_recorded_one() -> None:
    """Keys 0 and 1 tie for the last query; the run read key 1."""
    trace = random_trace(num_prompt=3, num_new=0)
    scores = np.array([[1, -np.inf, -np.inf], [1, 1, -np.inf], [1, 1, 0]], np.float32)
    kept = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0]], bool)
    dims = ("indexer_layer", "query", "key")
    data = trace.data.assign_coords(indexer_layer=[2]).assign(
        indexer_score=(dims, scores[None]), indexer_kept=(dims, kept[None])
    )
    model = {**trace.model, "config": {**trace.config, "index_topk": 1}}
    trace = dataclasses.replace(trace, data=data, model=model)
    assert selected_at(trace, 2, 1).values.tolist() == kept.tolist()
    assert selected_at(trace, 2, 2).values.tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 0]]
