"""One decision, step by step, against the fixture of the gate worked out by hand, and what holds on any trace."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from model.trace import near_ties
from model.trace.decision import Decision
from model.trace.observed_rule import rule_of
from model.trace.router_rule import IDENTITY, SIGMOID, SOFTMAX, RouterRule
from model.trace.scores import MissingScoresError
from model.trace.trace import Token, Trace
from tests.model.trace.test_router_rule import rules
from tests.traces import QWEN3, V4, family_trace, random_trace

SCORES = (0.9, 0.1, 0.6, 0.5, 0.8, 0.05, 0.3, 0.2)
BIAS = (0, 0, 0, 0, -0.3, 0, 0.4, 0.25)


def gate(
    scores: Sequence[float] = SCORES,
    bias: Sequence[float] = BIAS,
    group_score: Sequence[float] = (1.0, 1.1, 0.55, 1.15),
    kept: Sequence[int] = (1, 3),
    weights: Sequence[float] = (1.0714286, 0.8928571, 0.5357143),
    chosen: Sequence[int] = (2, 3, 6),
    dtype: str = "float32",
    **config: Any,
) -> Trace:
    """One token in layer 3 of a model with 8 experts in 4 groups of which 2 are kept, 3 chosen, scaled by 2.5."""
    variables = {
        "token_id": (("token",), np.array([7], np.int32)),
        "router_score": (("token", "moe_layer", "expert"), np.array([[scores]], np.float32)),
        "expert_bias": (("moe_layer", "expert"), np.array([bias], np.float32)),
        "group_score": (("token", "moe_layer", "group"), np.array([[group_score]], np.float32)),
        "group_kept": (("token", "moe_layer", "group"), np.isin(np.arange(4), kept)[None, None]),
        "expert_id": (("token", "moe_layer", "rank"), np.array([[chosen]], np.int16)),
        "gate_weight": (("token", "moe_layer", "rank"), np.array([[weights]], np.float32)),
    }
    stated = {"scoring_func": "sigmoid", "norm_topk_prob": True, "routed_scaling_factor": 2.5} | config
    return Trace(
        data=xr.Dataset(variables, coords={"moe_layer": [3]}),
        tokens=(Token(7, "a", 0, 1, False),),
        text=b"a",
        request={"interventions": []},
        model={"name": "fixture", "config": {name: value for name, value in stated.items() if value is not None}},
        origin={"kind": "measured", "dtype": dtype},
    )


def softmax_gate() -> Trace:
    """Return a decision as in V2: groups scored by their best expert, no bias, weights not normalised, scaled by 16."""
    scores, groups = (0.3, 0.15, 0.28, 0.14, 0.02, 0.01, 0.05, 0.05), (0.3, 0.28, 0.02, 0.05)
    softmax = {"scoring_func": "softmax", "norm_topk_prob": False, "routed_scaling_factor": 16.0}
    return gate(scores, (0,) * 8, groups, (0, 1), (4.8, 4.48, 2.4), (0, 2, 1), **softmax)


def values(found: Decision, name: str) -> list[float]:
    return found.experts[name].values.tolist()


def test_every_step_of_the_fixture() -> None:
    found = Decision.of(gate(), 0, 3)
    assert (found.layer, found.rule.scoring, found.rule.scores_per_group) == (3, SIGMOID, 2)
    assert (found.rule.routed_scale, found.rule.normalise_weights) == (2.5, True)
    logits = [2.1972246, -2.1972246, 0.4054651, 0.0, 1.3862944, -2.9444390, -0.8472979, -1.3862944]
    assert values(found, "logit") == pytest.approx(logits, abs=1e-5)
    assert values(found, "affinity") == pytest.approx(SCORES)
    assert values(found, "bias") == pytest.approx(BIAS)
    assert values(found, "biased") == pytest.approx([0.9, 0.1, 0.6, 0.5, 0.5, 0.05, 0.7, 0.45])
    assert found.groups["score"].values.tolist() == pytest.approx([1.0, 1.1, 0.55, 1.15])
    assert found.groups["expected"].values.tolist() == pytest.approx([1.0, 1.1, 0.55, 1.15])
    assert [found.members(group).tolist() for group in range(4)] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert np.flatnonzero(found.groups["kept"].values).tolist() == [1, 3]
    assert np.flatnonzero(found.experts["reachable"].values).tolist() == [2, 3, 6, 7]
    assert found.chosen.tolist() == [6, 2, 3]  # by biased score: 0.7, 0.6, 0.5
    assert found.entry == pytest.approx(0.5)
    nothing = [np.nan, np.nan]
    shares = [*nothing, 0.6 / 1.4, 0.5 / 1.4, *nothing, 0.3 / 1.4, np.nan]
    assert values(found, "share") == pytest.approx(shares, abs=1e-6, nan_ok=True)
    assert values(found, "weight") == pytest.approx([2.5 * share for share in shares], abs=1e-6, nan_ok=True)
    assert values(found, "expected") == pytest.approx([2.5 * share for share in shares], abs=1e-6, nan_ok=True)
    assert found.place_margin == pytest.approx(0.05, abs=1e-6)
    assert found.group_margin == pytest.approx(0.1, abs=1e-6)
    assert not found.place_near
    assert not found.group_near
    assert found.weight_gap < 1e-6
    assert found.group_gap < 1e-6


def test_negative_biased_scores_count_as_they_are() -> None:
    bias = (-0.5, -0.5, -1, -1, -1, -1, -1, -1)
    groups = (0.4 - 0.4, -0.4 - 0.5, -0.2 - 0.95, -0.7 - 0.8)
    found = Decision.of(gate(bias=bias, group_score=groups, kept=(0, 1), weights=(1.40625, 0.9375, 0.15625),
                             chosen=(0, 2, 1)), 0, 3)  # fmt: skip
    assert values(found, "biased") == pytest.approx([0.4, -0.4, -0.4, -0.5, -0.2, -0.95, -0.7, -0.8])
    assert found.entry == pytest.approx(-0.4)
    assert found.place_margin == pytest.approx(0.1, abs=1e-6)
    assert found.group_margin == pytest.approx(0.25, abs=1e-6)
    assert found.weight_gap < 1e-6


def test_softmax_gate_keeps_its_logits_up_to_a_constant() -> None:
    found = Decision.of(softmax_gate(), 0, 3)
    assert (found.rule.scoring, found.rule.scores_per_group, found.rule.normalise_weights) == (SOFTMAX, 1, False)
    assert values(found, "logit") == pytest.approx(np.log(values(found, "affinity")))
    assert [found.members(group).tolist() for group in range(2)] == [[0], [2]]
    assert values(found, "share")[:3] == pytest.approx([0.3, 0.15, 0.28])  # not divided by their sum
    assert found.weight_gap < 1e-6
    assert found.group_gap < 1e-6
    assert found.place_margin == pytest.approx(0.15 - 0.14, abs=1e-6)
    assert found.group_margin == pytest.approx(0.28 - 0.05, abs=1e-6)


@pytest.mark.parametrize(("stated", "scores", "scoring"), [
    ("softmax", SCORES, SOFTMAX), (None, SCORES, SIGMOID), (None, (0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05), SOFTMAX)
])  # fmt: skip
def test_scoring_is_as_stated_or_read_off(stated: str | None, scores: tuple[float, ...], scoring: str) -> None:
    assert Decision.of(gate(scores, scoring_func=stated), 0, 3).rule.scoring == scoring


def test_weights_that_contradict_the_affinities_are_noticed() -> None:
    """A known bug: weights taken from biased scores."""
    found = Decision.of(gate(weights=(0.8333333, 0.6944444, 0.9722222)), 0, 3)
    assert found.weight_gap == pytest.approx((0.9722222 - 0.5357143) / 0.9722222, abs=1e-6)
    assert values(found, "weight")[6] == pytest.approx(0.9722222)  # as recorded, whatever the rule says
    assert values(found, "share")[6] == pytest.approx(0.9722222 / 2.5)


def test_group_scores_that_contradict_the_biased_scores_are_noticed() -> None:
    """The group scores are sums of two affinities without the bias."""
    found = Decision.of(gate(group_score=(1.0, 1.1, 0.85, 0.5), kept=(0, 1), chosen=(0, 2, 3)), 0, 3)
    assert found.rule.scores_per_group == 2
    assert found.group_gap == pytest.approx(1.15 - 0.5, abs=1e-6)


def test_what_the_configuration_does_not_say_stays_unknown() -> None:
    found = Decision.of(gate(norm_topk_prob=None, routed_scaling_factor=None), 0, 3)
    assert (found.rule.routed_scale, found.rule.normalise_weights) == (None, None)
    assert np.isnan(values(found, "share")).all()
    assert np.isnan(found.weight_gap)


def test_near_ties_are_those_of_the_dtype() -> None:
    close = (*SCORES[:3], 0.452, *SCORES[4:])  # expert 3 leads expert 7 by 0.002
    fine, coarse = (Decision.of(gate(close, dtype=dtype), 0, 3) for dtype in ("float32", "bfloat16"))
    assert (fine.place_near, coarse.place_near, coarse.group_near) == (False, True, False)
    assert (fine.tolerance, coarse.tolerance) == (1e-4, near_ties.tolerance("bfloat16"))
    unknown = Decision.of(gate(close, dtype="int4"), 0, 3)
    assert (unknown.tolerance, unknown.place_near) == (None, False)
    assert unknown.place_margin == pytest.approx(0.002, abs=1e-6)


def test_changed_layer_has_no_margins() -> None:
    changed = dataclasses.replace(gate(), request={"interventions": [{"kind": "KnockOut", "layer": 3, "expert": 0}]})
    found = Decision.of(changed, 0, 3)
    assert not found.untouched
    assert np.isnan([found.place_margin, found.group_margin]).all()
    assert not found.place_near
    assert values(found, "weight")[2] == pytest.approx(1.0714286)


def test_without_groups_and_weights() -> None:
    trace = gate()
    data = trace.data.drop_vars(["group_score", "group_kept", "gate_weight"]).copy(deep=True)
    found = Decision.of(dataclasses.replace(trace, data=data), 0, 3)
    assert not found.groups
    assert found.experts["reachable"].all()
    assert np.isnan([found.place_margin, found.group_margin, found.group_gap, found.weight_gap]).all()


def test_missing_scores_and_tokens_are_named() -> None:
    trace = gate()
    bare = dataclasses.replace(trace, data=trace.data[["token_id", "expert_id"]].copy(deep=True))
    with pytest.raises(MissingScoresError, match="router_score, expert_bias"):
        Decision.of(bare, 0, 3)
    with pytest.raises(ValueError, match="token 5 does not exist; the run has 1"):
        Decision.of(trace, 5, 3)
    with pytest.raises(KeyError):
        Decision.of(trace, 0, 1)


@given(seed=st.integers(0, 100), token=st.integers(0, 9), layer=st.sampled_from([1, 2]))
def test_what_holds_on_any_trace(seed: int, token: int, layer: int) -> None:
    trace = random_trace(seed)
    found, rule = Decision.of(trace, token, layer), rule_of(trace)
    one = trace.data.isel(token=token).sel(moe_layer=layer)
    assert sorted(found.chosen.tolist()) == sorted(one["expert_id"].values.tolist())
    assert np.nansum(values(found, "share")) == pytest.approx(1, abs=1e-6)
    assert found.weight_gap < 1e-5
    assert found.group_gap < 1e-5
    assert found.experts["biased"].values[found.chosen[-1]] == np.float32(found.entry)
    assert found.experts["reachable"].values[found.chosen].all()
    assert (found.place_margin, found.group_margin) == (
        near_ties.place_margin(trace.data, rule).values[token, layer - 1],
        near_ties.group_margin(trace.data, rule).values[token, layer - 1],
    )


def test_numbers_that_all_experts_share() -> None:
    """The biases sum to 0.35; the chosen experts' affinities are 0.3, 0.6 and 0.5."""
    found = Decision.of(gate(), 0, 3)
    assert found.mean_bias == pytest.approx(0.35 / 8)
    assert found.affinity_sum == pytest.approx(1.4)


# --- routers of other families ---------------------------------------------------------------------------------------


@given(rule=rules(), seed=st.integers(0, 50), token=st.integers(0, 9), layer=st.integers(0, 2))
def test_what_holds_for_any_router(rule: RouterRule, seed: int, token: int, layer: int) -> None:
    """The margins are never negative, the scores give the choice, and the rule gives the weights."""
    trace = family_trace(rule, seed)
    found = Decision.of(trace, token, layer)
    assert found.rule == rule
    assert found.follows_scores
    assert (found.place_margin >= 0, found.group_margin >= 0) == (True, True)
    assert found.experts["biased"].values[found.chosen[-1]] == np.float32(found.entry)
    assert found.experts["logit"].values == pytest.approx(trace.data["router_logit"].values[token, layer])
    known = rule.normalise_weights is not None and rule.routed_scale
    if known and abs(np.nanmax(np.abs(found.experts["weight"].values))) > 1e-6:
        assert found.weight_gap < 1e-3
    elif rule.normalise_weights is None or rule.routed_scale is None:
        assert np.isnan(found.weight_gap)


def test_router_without_bias_and_groups() -> None:
    found = Decision.of(family_trace(QWEN3), 4, 1)
    affinity = found.experts["affinity"].values
    assert found.experts["biased"].values.tolist() == affinity.tolist()
    assert found.chosen.tolist() == np.argsort(-affinity)[:2].tolist()
    assert found.place_margin == pytest.approx(np.sort(affinity)[-2] - np.sort(affinity)[-3])
    assert not found.groups
    assert (found.logit_kind, found.by_table) == ("logit", False)


def test_no_score_decides_where_experts_follow_from_the_token_id() -> None:
    trace = family_trace(V4, table_layers=(0, 1))
    found = Decision.of(trace, 4, 1)
    assert found.by_table
    assert np.isnan([found.place_margin, found.group_margin, found.entry]).all()
    assert (found.place_near, found.group_near, found.follows_scores) == (False, False, True)
    assert found.weight_gap < 1e-5
    assert not Decision.of(trace, 4, 2).by_table
    assert Decision.of(trace, 4, 2).place_margin >= 0


def test_factor_of_an_expert_is_part_of_the_weight_and_not_of_the_share() -> None:
    rule = dataclasses.replace(QWEN3, scoring=IDENTITY, has_expert_factor=True)
    found = Decision.of(family_trace(rule, seed=2), 3, 0)
    affinity, factor = found.experts["affinity"].values[found.chosen], found.experts["factor"].values[found.chosen]
    assert found.experts["share"].values[found.chosen] == pytest.approx(affinity / affinity.sum(), rel=1e-5)
    assert found.experts["weight"].values[found.chosen] == pytest.approx(factor * affinity / affinity.sum(), rel=1e-5)


def test_unknown_rule_has_no_decision() -> None:
    with pytest.raises(MissingScoresError, match="the rule by which this router selects experts is not known"):
        Decision.of(family_trace(None), 0, 1)
