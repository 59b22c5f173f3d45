"""Routing figures against hand-computed cases, and the identities they must keep on any trace."""

import dataclasses

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from model.trace import metrics, routing
from model.trace.router_rule import RouterRule
from tests.traces import random_trace


def ids(rows: list) -> xr.DataArray:
    array = np.array(rows, dtype=np.int16)
    return xr.DataArray(array, dims=("token", "moe_layer", "rank"), coords={"moe_layer": range(1, 1 + array.shape[1])})


def rule(num_experts: int, top_k: int, num_groups: int, num_kept_groups: int) -> RouterRule:
    return RouterRule(num_experts=num_experts, top_k=top_k, num_groups=num_groups, num_kept_groups=num_kept_groups)


def test_shared_tokens_count_all_pairs() -> None:
    together = routing.shared_tokens(ids([[[0, 1, 2]], [[0, 2, 3]]]), 5).values[0]
    assert together[0].tolist() == [2, 1, 2, 1, 0]
    assert together[1].tolist() == [1, 1, 1, 0, 0]  # ranks 0 and 2 are no neighbours and count all the same
    assert not together[4].any()


def test_transitions_count_all_pairs_of_consecutive_layers() -> None:
    pairs = routing.transitions(ids([[[0, 1], [2, 0]], [[0, 2], [2, 1]]]), 3)
    assert pairs.coords["moe_layer"].values.tolist() == [1]
    assert pairs.values.tolist() == [[[1, 1, 2], [1, 0, 1], [0, 1, 1]]]


def test_layers_of_transitions_are_named() -> None:
    pairs = routing.transitions(ids([[[0], [1], [1]]]).assign_coords(moe_layer=[3, 5, 9]), 2)
    assert pairs.coords["moe_layer"].values.tolist() == [3, 5]
    assert pairs.coords["next_layer"].values.tolist() == [5, 9]


def test_shared_tokens_count_pairs_and_on_the_diagonal_tokens() -> None:
    counts = routing.shared_tokens(ids([[[0, 1]], [[0, 2]], [[-1, 2]]]), 3)
    assert counts.values[0].tolist() == [[2, 1, 1], [1, 1, 0], [1, 0, 2]]


def test_fair_coactivation() -> None:
    # 2 of 4 groups of 2 are kept and 2 of their 4 experts taken: the other one is each of the 3 left alike
    same, apart = routing.fair_coactivation(rule(8, 2, 4, 2))
    assert same == pytest.approx(1 / 3)
    assert apart == pytest.approx(1 / 3 * 1 / 3)  # in one of three cases the other group is the second one kept
    assert same + 6 * apart == pytest.approx(1)  # a token has one other expert
    assert routing.fair_coactivation(rule(5, 3, 1, 1)) == (0.5, 0.5)


def test_relative_bias_has_no_offset() -> None:
    bias = xr.DataArray([[1.5, 2.5, 2.0]], dims=("moe_layer", "expert"))
    assert routing.relative_bias(bias).values.tolist() == [[-0.5, 0.5, 0.0]]


def test_untouched_layers() -> None:
    layers = xr.DataArray([1, 2, 5], dims=("moe_layer",))
    knocked = {"kind": "KnockOut", "layer": 2, "expert": 0}
    assert routing.untouched_layers([], layers).values.tolist() == [True, True, True]
    assert routing.untouched_layers([knocked], layers).values.tolist() == [True, False, True]
    assert not routing.untouched_layers([knocked, {"kind": "TopK", "k": 2}], layers).any()
    assert not routing.untouched_layers([{"kind": "BiasOff", "layer": None}], layers).any()
    replayed = {"kind": "Replay", "layers": [1, 2], "num_tokens": 3}
    assert routing.untouched_layers([replayed], layers).values.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("taken", "total", "low", "high"), [(3, 10, 0.1078, 0.6032), (0, 5, 0, 0.4345), (5, 5, 0.5655, 1), (0, 0, 0, 1)]
)
def test_interval_of_a_share(taken: int, total: int, low: float, high: float) -> None:
    assert routing.share_interval(taken, total) == pytest.approx((low, high), abs=1e-4)


def test_intervals_of_many_shares() -> None:
    low, high = routing.share_intervals(np.array([[3, 0], [5, 0]]), np.array([[10, 5], [5, 0]]))
    assert low == pytest.approx(np.array([[0.1078, 0], [0.5655, 0]]), abs=1e-4)
    assert high == pytest.approx(np.array([[0.6032, 0.4345], [1, 1]]), abs=1e-4)


def test_by_expert_lays_ranks_out_and_leaves_unknown_ones() -> None:
    chosen, weights = np.array([[2, 0], [-1, 1]], np.int16), np.array([[0.7, 0.3], [9, 1.5]], np.float32)
    laid = routing.by_expert(chosen, weights, 3, np.nan)
    assert np.array_equal(laid, np.array([[0.3, np.nan, 0.7], [np.nan, 1.5, np.nan]], np.float32), equal_nan=True)
    assert routing.by_expert(chosen, np.array(True), 3, False).tolist() == [[True, False, True], [False, True, False]]


SCORES = [0.9, 0.1, 0.6, 0.5, 0.8, 0.05, 0.3, 0.2]
BIAS = [0, 0, 0, 0, -0.3, 0, 0.4, 0.25]


def gate() -> dict[str, xr.DataArray]:
    score = xr.DataArray([[SCORES]], dims=("token", "moe_layer", "expert"), coords={"moe_layer": [1]})
    bias = xr.DataArray([BIAS], dims=("moe_layer", "expert"), coords={"moe_layer": [1]})
    return {"score": score, "bias": bias, "ids": ids([[[2, 3, 6]]])}


def test_who_lost_to_what() -> None:
    g = gate()
    # without the bias: groups 0 (1.0) and 1 (1.1) are kept, experts 0, 2, 3 selected: only 0 is new
    assert np.flatnonzero(routing.lost_to_bias(g["score"], g["ids"], rule(8, 3, 4, 2))).tolist() == [0]
    # without the limit: biased 0.9, 0.7, 0.6 are experts 0, 6, 2: only 0 is new
    assert np.flatnonzero(routing.lost_to_group_limit(g["score"] + g["bias"], g["ids"], rule(8, 3, 4, 2))).tolist() == [
        0
    ]


def test_score_to_beat() -> None:
    g = gate()
    biased = g["score"] + g["bias"]
    assert routing.entry_score(biased, g["ids"]).item() == pytest.approx(0.5)


def test_a_tie_between_groups_keeps_no_more_than_the_rule() -> None:
    """All scores equal: the zero-bias selection still takes top-k experts from two of four groups."""
    score = xr.DataArray(np.full((1, 1, 8), 0.5), dims=("token", "moe_layer", "expert"), coords={"moe_layer": [1]})
    lost = routing.lost_to_bias(score, ids([[[-1, -1, -1]]]), rule(8, 3, 4, 2)).values[0, 0]
    assert lost.sum() == 3
    assert lost.reshape(4, 2).any(-1).sum() == 2


def test_groups_are_judged_by_one_or_two_of_their_best() -> None:
    score = xr.DataArray([[[0.3, 0.05, 0.2, 0.2]]], dims=("token", "moe_layer", "expert"), coords={"moe_layer": [1]})
    chosen = ids([[[0, 1]]])
    assert not routing.lost_to_bias(score, chosen, dataclasses.replace(rule(4, 2, 2, 1), scores_per_group=1)).any()
    assert np.flatnonzero(routing.lost_to_bias(score, chosen, rule(4, 2, 2, 1))).tolist() == [2, 3]


@given(seed=st.integers(0, 50), num_prompt=st.integers(1, 8), num_new=st.integers(0, 5))
def test_identities_on_any_trace(seed: int, num_prompt: int, num_new: int) -> None:
    trace = random_trace(seed, num_prompt, num_new)
    expert_id, kept = trace.data["expert_id"], trace.data["group_kept"]
    counts = metrics.tokens_per_expert(expert_id, 8)
    together = routing.shared_tokens(expert_id, 8).values
    assert np.array_equal(np.diagonal(together, axis1=1, axis2=2), counts.values)
    assert np.array_equal(together, together.swapaxes(1, 2))
    pairs = routing.transitions(expert_id, 8)
    assert (pairs.sum(["expert", "next_expert"]) == trace.num_tokens * 2**2).all()
    assert (pairs.sum("next_expert").values == 2 * counts.values[:-1]).all()
    outside = ~np.repeat(kept.values, 2, -1)
    limited = routing.lost_to_group_limit(
        trace.data["router_score"] + trace.data["expert_bias"], expert_id, rule(8, 2, 4, 2)
    )
    assert (outside | ~limited.values).all()


def test_recorded_selection_is_what_the_rule_gives() -> None:
    """`RouterRule.select` agrees with the traces' own selection, so 'would have been selected' means what it says."""
    trace = random_trace(3, 40, 0)
    biased = trace.data["router_score"] + trace.data["expert_bias"]
    again = rule(8, 2, 4, 2).select(biased.values)
    assert np.array_equal(again, routing.one_hot(trace.data["expert_id"], 8))


def test_pairs_that_have_tokens_in_common() -> None:
    """Four experts in two groups, two to a token: expert 0 took two tokens, one with expert 1, one with expert 2."""
    counts = routing.shared_tokens(ids([[[0, 1]], [[0, 2]]]), 4).isel(moe_layer=0)
    pairs = routing.pair_shares(counts, rule(4, 2, 2, 2))
    columns = zip(
        *(pairs[name].values.tolist() for name in ("expert", "other", "tokens", "total", "share")), strict=True
    )
    assert list(columns) == [(0, 1, 1, 2, 0.5), (0, 2, 1, 2, 0.5), (1, 0, 1, 1, 1), (2, 0, 1, 1, 1)]
    same, apart = routing.fair_coactivation(rule(4, 2, 2, 2))
    assert pairs["fair"].values.tolist() == [same, apart, same, apart]
    assert (pairs["low"].values[0], pairs["high"].values[0]) == routing.share_interval(1, 2)
