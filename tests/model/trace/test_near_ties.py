"""Margins of routing decisions against numbers worked out by hand, and what holds on any trace."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from model.trace import near_ties
from model.trace.observed_rule import rule_of
from model.trace.router_rule import RouterRule
from model.trace.routing import one_hot
from model.trace.scores import MissingScoresError, biased_scores
from tests.model.trace.test_router_rule import rules
from tests.traces import QWEN3, V4, family_trace, random_trace

SCORES = (0.9, 0.1, 0.6, 0.5, 0.8, 0.05, 0.3, 0.2)
BIAS = (0, 0, 0, 0, -0.3, 0, 0.4, 0.25)
RULE = RouterRule(num_experts=8, top_k=3, num_groups=4, num_kept_groups=2)


def gate(
    scores: Sequence[float] = SCORES,
    bias: Sequence[float] = BIAS,
    group_score: Sequence[float] = (1.0, 1.1, 0.55, 1.15),
    kept: Sequence[bool] = (False, True, False, True),
    chosen: Sequence[int] = (2, 3, 6),
) -> xr.Dataset:
    """One token in layer 3: the fixture of the gate, 8 experts in 4 groups of which 2 are kept, 3 chosen."""
    return xr.Dataset(
        {
            "router_score": (("token", "moe_layer", "expert"), np.array([[scores]], np.float32)),
            "expert_bias": (("moe_layer", "expert"), np.array([bias], np.float32)),
            "group_score": (("token", "moe_layer", "group"), np.array([[group_score]], np.float32)),
            "group_kept": (("token", "moe_layer", "group"), np.array([[kept]])),
            "expert_id": (("token", "moe_layer", "rank"), np.array([[chosen]], np.int16)),
        },
        coords={"moe_layer": [3]},
    )


def softmax_gate() -> xr.Dataset:
    """Groups judged by their best, no bias: 0.3, 0.28, 0.02, 0.05 keep groups 0 and 1; experts 0 and 2 are chosen."""
    scores, groups = [0.3, 0.15, 0.28, 0.14, 0.02, 0.01, 0.05, 0.05], [0.3, 0.28, 0.02, 0.05]
    return gate(scores, [0.0] * 8, groups, [True, True, False, False], [0, 2])


def test_margins_of_the_fixture() -> None:
    data = gate()
    # biased: .9 .1 | .6 .5 | .5 .05 | .7 .45; the last chosen one has .5, the best one left in groups 1 and 3 .45
    assert near_ties.place_margin(data, RULE).item() == pytest.approx(0.05, abs=1e-6)
    assert near_ties.group_margin(data, RULE).item() == pytest.approx(1.1 - 1.0, abs=1e-6)
    assert near_ties.place_margin(data, RULE).dims == near_ties.group_margin(data, RULE).dims == ("token", "moe_layer")
    assert near_ties.place_margin(data, RULE)["moe_layer"].item() == 3


def test_margins_of_a_softmax_gate() -> None:
    assert near_ties.place_margin(softmax_gate(), RULE).item() == pytest.approx(0.28 - 0.15, abs=1e-6)
    assert near_ties.group_margin(softmax_gate(), RULE).item() == pytest.approx(0.28 - 0.05, abs=1e-6)


def test_margin_is_infinite_without_a_rival() -> None:
    assert near_ties.group_margin(gate(kept=[True] * 4), RULE).item() == np.inf
    assert near_ties.place_margin(gate(chosen=[2, 3, 6, 7]), RULE).item() == np.inf


def test_margin_of_unknown_experts_is_unknown() -> None:
    data = gate(chosen=[2, 3, -1])
    assert np.isnan(near_ties.place_margin(data, RULE).item())
    assert not near_ties.near_ties(data, "bfloat16", RULE).item()


def reach_of(data: xr.Dataset, dtype: str, *experts: int) -> float:
    """How far rounding may bring these experts together: the sum of their reaches."""
    return float(near_ties.reach(data["router_score"].values[0, 0], dtype)[list(experts)].sum())


def test_reach_by_hand() -> None:
    """Logits -1, 0 and 1 have a standard deviation of 0.8165; the slope of the sigmoid at 0 is a quarter."""
    scores = 1 / (1 + np.exp(-np.array([-1.0, 0.0, 1.0])))
    expected = 0.03 * np.sqrt(2 / 3) * scores * (1 - scores) + 2.0**-9 * scores
    assert near_ties.reach(scores.astype("f4"), "bfloat16") == pytest.approx(expected, rel=1e-5)
    assert expected[1] == pytest.approx(0.0071, abs=1e-4)


def test_reach_scales_with_the_scores() -> None:
    """The same logits, over few and over many experts: softmax scores and their reach shrink together."""
    few = np.exp(np.linspace(-1, 1, 8))
    many = np.exp(np.tile(np.linspace(-1, 1, 8), 20))
    one, other = (near_ties.reach((powers / powers.sum()).astype("f4"), "bfloat16") for powers in (few, many))
    assert one[:8].mean() / other[:8].mean() == pytest.approx(20, rel=0.2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("units", "near"), [(0.9, True), (1.1, False), (-0.9, True), (-1.1, False)])
def test_a_place_is_a_near_tie_within_reach(dtype: str, units: float, near: bool) -> None:
    together = reach_of(gate([*SCORES[:3], 0.45, *SCORES[4:]]), dtype, 3, 7)  # expert 3 against 7
    scores = [*SCORES[:3], 0.45 + units * together, *SCORES[4:]]
    assert near_ties.near_places(gate(scores), dtype, RULE).item() is near
    assert near_ties.follow(gate(scores), dtype, RULE).item() is (units > -1)


@pytest.mark.parametrize(("units", "near"), [(0.9, True), (1.1, False)])
def test_a_group_judged_by_two_is_a_near_tie_within_the_reach_of_all_four(units: float, near: bool) -> None:
    """Group 1 holds experts 2 and 3, group 0 experts 0 and 1 with 1.0."""
    together = reach_of(gate([*SCORES[:3], 0.4, *SCORES[4:]]), "bfloat16", 0, 1, 2, 3)
    kept = 1.0 + units * together
    data = gate([*SCORES[:3], kept - 0.6, *SCORES[4:]], group_score=(1.0, kept, 0.55, 1.15), chosen=(2, 6, 7))
    assert near_ties.near_groups(data, "bfloat16", RULE).item() is near


@pytest.mark.parametrize(("units", "near"), [(0.9, True), (1.1, False)])
def test_a_group_judged_by_its_best_is_a_near_tie_within_the_reach_of_both(units: float, near: bool) -> None:
    data = softmax_gate()
    data["router_score"][0, 0, 6] = 0.28
    together = reach_of(data, "bfloat16", 2, 6)
    data["group_score"][0, 0, 3] = data["router_score"][0, 0, 6] = 0.28 - units * together
    assert near_ties.near_groups(data, "bfloat16", RULE).item() is near


def test_what_a_group_score_is_made_of_is_read_off_the_numbers() -> None:
    assert near_ties.with_measured_groups(RULE, gate()).scores_per_group == 2
    assert near_ties.with_measured_groups(RULE, softmax_gate()).scores_per_group == 1


def test_missing_scores_are_named() -> None:
    ids_alone = gate()[["expert_id"]]
    with pytest.raises(MissingScoresError, match="router_score, expert_bias, group_kept"):
        near_ties.place_margin(ids_alone, RULE)
    with pytest.raises(MissingScoresError, match="group_score, group_kept"):
        near_ties.group_margin(ids_alone, RULE)
    with pytest.raises(MissingScoresError, match="does not hold"):
        near_ties.near_ties(ids_alone, "float32", RULE)


def test_dtype_without_a_measured_tolerance_is_refused() -> None:
    with pytest.raises(ValueError, match="'float8'; known are float32, bfloat16, float16"):
        near_ties.tolerance("float8")


@given(seed=st.integers(0, 200), num_groups=st.sampled_from([1, 2, 4]), top_k=st.integers(1, 3))
def test_what_holds_on_any_trace(seed: int, num_groups: int, top_k: int) -> None:
    """Margins of a choice by the rule are never negative, and a coarser dtype never has fewer near ties."""
    kept = max(1, num_groups // 2)
    trace = random_trace(seed, num_groups=num_groups, num_kept=kept, top_k=top_k)
    data, rule = trace.data, rule_of(trace)
    assert (near_ties.place_margin(data, rule) >= 0).all()
    assert (near_ties.group_margin(data, rule) >= 0).all()
    assert near_ties.with_measured_groups(rule, data).scores_per_group == 2
    fine, middle, coarse = (near_ties.near_ties(data, dtype, rule) for dtype in ("float32", "float16", "bfloat16"))
    assert fine.dims == ("token", "moe_layer")
    assert (~fine | middle).all()
    assert (~middle | coarse).all()


@given(seed=st.integers(0, 200), token=st.integers(0, 9), layer=st.sampled_from([1, 2]))
def test_a_shift_under_half_the_margin_turns_no_choice(seed: int, token: int, layer: int) -> None:
    """The margin is the distance to another choice: what moves every score by less than half of it changes nothing."""
    data = random_trace(seed).data.isel(token=[token]).sel(moe_layer=[layer])
    room = float(min(near_ties.place_margin(data, RULE).item(), near_ties.group_margin(data, RULE).item() / 2)) * 0.49
    noise = np.random.default_rng(seed).choice([-room, room], 8)
    moved = data["router_score"].values[0, 0] + data["expert_bias"].values[0] + noise
    groups = moved.reshape(4, 2).sum(-1)
    assert set(np.argsort(-groups)[:2]) == set(np.flatnonzero(data["group_kept"].values[0, 0]))
    reachable = np.where(np.repeat(data["group_kept"].values[0, 0], 2), moved, -np.inf)
    assert set(np.argsort(-reachable)[:2]) == set(data["expert_id"].values[0, 0].tolist())


# --- routers of other families ---------------------------------------------------------------------------------------


def test_reach_of_the_square_root_of_a_softplus_by_hand() -> None:
    """Logits -1, 0 and 1 have a standard deviation of 0.8165; the slope at 0 is 1/2 over 2 times 0.8326."""
    logits = np.array([-1.0, 0.0, 1.0])
    affinity = V4.affinity(logits)
    slope = (V4.affinity(logits + 1e-6) - V4.affinity(logits - 1e-6)) / 2e-6
    assert slope[1] == pytest.approx(0.25 / np.sqrt(np.log(2)))
    expected = 0.03 * np.sqrt(2 / 3) * slope + 2.0**-9 * affinity
    assert near_ties.reach_of_scores({"router_score": affinity}, "bfloat16", V4) == pytest.approx(expected, rel=1e-4)


def test_reach_of_biased_logits_is_that_of_logits() -> None:
    rule = dataclasses.replace(QWEN3, bias_on_logits=True)
    at = {"router_score": np.full(3, 0.5, "f4"), "router_logit": np.array([-1.0, 0.0, 1.0])}
    expected = 0.03 * np.sqrt(2 / 3) + 2.0**-9 * np.array([1, 0, 1])
    assert near_ties.reach_of_scores(at, "bfloat16", rule) == pytest.approx(expected, rel=1e-5)


@given(rule=rules(), seed=st.integers(0, 100), bits=st.integers(0, 2**32 - 1))
def test_what_rounding_can_turn_is_a_near_tie(rule: RouterRule, seed: int, bits: int) -> None:
    """A router whose scores move by less than their reach selects other experts only where a near tie is marked."""
    data = family_trace(rule, seed).data
    marked = near_ties.near_ties(data, "bfloat16", rule)
    assert (near_ties.place_margin(data, rule) >= 0).all()
    assert (near_ties.group_margin(data, rule) >= 0).all()
    assert near_ties.follow(data, "float32", rule).all()
    assert (~near_ties.near_ties(data, "float32", rule) | marked).all()
    at = {str(name): values.values for name, values in data.data_vars.items()}
    reach = near_ties.reach_of_scores(at, "bfloat16", rule)
    moved = biased_scores(at, rule) + np.random.default_rng(bits).uniform(-1, 1, reach.shape) * reach
    turned = (rule.select(moved) != one_hot(data["expert_id"], rule.num_experts)).any(-1)
    assert (~turned | marked.values).all()


def test_router_without_bias_and_groups_needs_neither() -> None:
    data = family_trace(QWEN3).data
    assert not {"expert_bias", "group_kept", "group_score"} & set(data)
    assert (near_ties.group_margin(data, QWEN3) == np.inf).all()
    with pytest.raises(MissingScoresError, match="does not hold expert_bias;"):
        near_ties.place_margin(data, dataclasses.replace(QWEN3, has_selection_bias=True))
