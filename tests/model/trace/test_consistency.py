"""Each fault planted in a correct trace is found and named; nothing is found in traces without a fault."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from model.trace import consistency
from model.trace.consistency import Fault, faults
from model.trace.router_rule import RouterRule
from model.trace.trace import Trace
from tests.model.trace.test_router_rule import rules
from tests.traces import QWEN3, V4, family_trace, random_trace


def sound(seed: int = 0, **shape: Any) -> Trace:
    return random_trace(seed, **({"num_prompt": 40, "num_new": 0, "num_experts": 16} | shape))


def changed(trace: Trace, config: dict[str, Any] | None = None, kind: str = "measured", **arrays: np.ndarray) -> Trace:
    data = trace.data.assign({name: (trace.data[name].dims, values) for name, values in arrays.items()})
    model = {**trace.model, "config": {**trace.model["config"], **(config or {})}}
    return dataclasses.replace(trace, data=data, model=model, origin={**trace.origin, "kind": kind})


def picked(trace: Trace, values: xr.DataArray) -> np.ndarray:
    """Values [..., expert] of the chosen experts, [token, moe_layer, rank]."""
    ids = trace.data["expert_id"].values.astype(int)
    return np.take_along_axis(np.broadcast_to(values.values, (*ids.shape[:2], values.shape[-1])), ids, -1)


def only(trace: Trace) -> Fault:
    (found,) = faults(trace)
    return found


@given(st.integers(0, 2**16), st.sampled_from([(4, 2), (4, 4), (1, 1), (2, 1)]), st.integers(1, 4))
def test_nothing_is_found_in_a_sound_trace(seed: int, groups: tuple[int, int], top_k: int) -> None:
    assert faults(sound(seed, num_prompt=6, num_groups=groups[0], num_kept=groups[1], top_k=top_k)) == []


def test_weights_from_biased_scores() -> None:
    trace = sound(top_k=4)
    biased = picked(trace, trace.data["router_score"] + trace.data["expert_bias"])
    found = only(changed(trace, gate_weight=(2.5 * biased / biased.sum(-1, keepdims=True)).astype("f4")))
    assert (found.kind, found.layers) == (consistency.BIASED_WEIGHTS, (1, 2))
    assert (found.decisions, found.of) == (80, 80)
    assert found.evidence.startswith("L1: the error of weights in proportion to affinity + bias")


def test_biased_scores_that_are_not_normalised_are_two_faults() -> None:
    trace = sound(top_k=4)
    biased = picked(trace, trace.data["router_score"] + trace.data["expert_bias"])
    kinds = [fault.kind for fault in faults(changed(trace, gate_weight=(2.5 * biased).astype("f4")))]
    assert kinds == [consistency.BIASED_WEIGHTS, consistency.NOT_NORMALISED]


def test_no_normalisation() -> None:
    trace = sound(top_k=4)
    weights = 2.5 * picked(trace, trace.data["router_score"])
    found = only(changed(trace, gate_weight=weights.astype("f4")))
    assert found.kind == consistency.NOT_NORMALISED
    sums = weights[:, 0].sum(-1)
    assert found.evidence == f"L1: a token's weights sum to {sums.min():.3g} to {sums.max():.3g}"


def test_normalised_against_the_configuration() -> None:
    assert only(changed(sound(), {"norm_topk_prob": False})).kind == consistency.NORMALISED


def test_another_scaling_factor() -> None:
    found = only(changed(sound(), {"routed_scaling_factor": 1.0}))
    assert (found.kind, found.evidence) == (consistency.OTHER_SCALE, "L1: 2.5; the configuration says 1")


def test_one_layer_alone() -> None:
    trace = sound()
    weights = trace.data["gate_weight"].values.copy()
    weights[:, 1] *= 2
    found = only(changed(trace, gate_weight=weights))
    assert (found.kind, found.layers, found.of) == (consistency.OTHER_SCALE, (2,), 40)


def test_weights_by_no_rule() -> None:
    trace = sound()
    weights = trace.data["gate_weight"].values.copy()
    weights[3, 0] = [2.0, 0.5]
    assert only(changed(trace, gate_weight=weights)).kind == consistency.OTHER_WEIGHTS


def negative(groups_masked_with: float | None) -> Trace:
    """Biased scores mostly below zero; dropped groups hold `groups_masked_with` instead of minus infinity."""
    trace = sound(top_k=4)
    bias = trace.data["expert_bias"].values - 0.8
    biased = trace.data["router_score"].values + bias
    kept = np.repeat(trace.data["group_kept"].values, 4, -1)
    masked = biased if groups_masked_with is None else np.where(kept, biased, groups_masked_with)
    ids = np.argsort(-masked, -1, kind="stable")[..., :4]
    weights = np.take_along_axis(trace.data["router_score"].values, ids, -1)
    order = np.argsort(-weights, -1)
    ids, weights = np.take_along_axis(ids, order, -1), np.take_along_axis(weights, order, -1)
    return changed(
        trace,
        expert_id=ids.astype("i2"),
        gate_weight=(2.5 * weights / weights.sum(-1, keepdims=True)).astype("f4"),
        expert_bias=bias.astype("f4"),
        group_score=(trace.data["group_score"].values - 1.6).astype("f4"),
    )


def test_groups_masked_with_zero() -> None:
    assert faults(negative(-np.inf)) == []
    found = only(negative(0.0))
    assert (found.kind, found.layers) == (consistency.ZERO_MASK, (1, 2))
    assert 0 < found.decisions < found.of == 80
    assert "tokens took experts of groups that were not kept" in found.evidence


def test_group_limit_left_out_is_no_zero_mask() -> None:
    assert only(negative(None)).kind == consistency.DROPPED_GROUP


def regrouped(per_group: int, num_kept: int, recorded: bool = True) -> Trace:
    """Return a trace whose router scores groups by another number of experts, or keeps another number of groups."""
    trace = sound(seed=3, top_k=4)
    rule = RouterRule(num_experts=16, top_k=4, num_groups=4, num_kept_groups=num_kept, scores_per_group=per_group)
    biased = trace.data["router_score"].values + trace.data["expert_bias"].values
    kept, ids = rule.keep_groups(rule.group_scores(biased)), rule.expert_ids(biased)
    weights = np.take_along_axis(trace.data["router_score"].values, ids, -1)
    arrays = {
        "expert_id": ids.astype("i2"),
        "gate_weight": (2.5 * weights / weights.sum(-1, keepdims=True)).astype("f4"),
        "group_kept": kept,
    }
    if recorded:
        arrays["group_score"] = rule.group_scores(biased).astype("f4")
    return changed(trace, **arrays)


def test_groups_by_the_rule_are_sound() -> None:
    assert faults(regrouped(2, 2)) == []
    assert faults(changed(regrouped(2, 2), kind="imported")) == []


def test_groups_scored_by_their_best_expert() -> None:
    found = only(regrouped(1, 2))
    assert (found.kind, found.layers, found.decisions) == (consistency.GROUP_RULE, (1, 2), 80)
    assert found.evidence.endswith("; they are the best biased score")


def test_groups_scored_by_two_where_the_model_says_one() -> None:
    config = {"model_type": "deepseek_v2", "topk_method": "group_limited_greedy", "scoring_func": "sigmoid"}
    found = only(changed(regrouped(2, 2), config))
    assert found.kind == consistency.GROUP_RULE
    assert found.evidence.endswith("; they are the sum of the two best biased scores")


def test_groups_kept_by_their_best_expert_against_the_recorded_sums() -> None:
    found = only(regrouped(1, 2, recorded=False))
    assert found.kind == consistency.GROUP_CHOICE
    assert 0 < found.decisions < 80


@pytest.mark.parametrize("num_kept", [1, 3, 4])
def test_another_number_of_groups(num_kept: int) -> None:
    """One too few, one too many, and no limit."""
    found = only(regrouped(2, num_kept))
    assert (found.kind, found.decisions, found.of) == (consistency.GROUP_NUMBER, 80, 80)
    assert found.evidence == f"L1: {num_kept} of 4 groups are kept; the configuration says 2"


def test_bias_left_out() -> None:
    trace = sound(num_groups=1, num_kept=1)
    bias = np.linspace(-0.3, 0.3, 32).reshape(2, 16).astype("f4")
    ids = np.argsort(-trace.data["router_score"].values, -1)[..., :2].astype("i2")
    weights = np.take_along_axis(trace.data["router_score"].values, ids.astype(int), -1)
    weights = (2.5 * weights / weights.sum(-1, keepdims=True)).astype("f4")
    assert only(changed(trace, expert_bias=bias, expert_id=ids, gate_weight=weights)).kind == consistency.NO_BIAS


def test_choice_against_the_scores() -> None:
    trace = sound(num_groups=1, num_kept=1)
    ids = (trace.data["expert_id"].values + 1) % 16
    weights = np.take_along_axis(trace.data["router_score"].values, ids.astype(int), -1)
    weights = (2.5 * weights / weights.sum(-1, keepdims=True)).astype("f4")
    assert only(changed(trace, expert_id=ids, gate_weight=weights)).kind == consistency.OTHER_CHOICE


def test_rounding_of_an_engine_is_no_fault() -> None:
    trace = sound()
    rounded = (trace.data["gate_weight"].values * (1 + 2.0**-8)).astype("f4")
    assert only(changed(trace, gate_weight=rounded)).kind == consistency.OTHER_SCALE
    assert faults(changed(trace, kind="imported", gate_weight=rounded)) == []


def test_near_ties_are_no_fault() -> None:
    """The last selected expert and the best other one are exchanged if their scores differ by less than rounding."""
    trace = sound(num_groups=1, num_kept=1)
    scores, ids = trace.data["router_score"].values.copy(), trace.data["expert_id"].values.astype(int)
    biased = scores + trace.data["expert_bias"].values
    order = np.argsort(-biased, -1)
    last, best_out = order[..., 1:2], order[..., 2:3]
    lift = np.take_along_axis(biased, last, -1) - np.take_along_axis(biased, best_out, -1) + 5e-6
    np.put_along_axis(scores, best_out, np.take_along_axis(scores, best_out, -1) + lift, -1)
    weights = np.take_along_axis(scores, ids, -1)
    weights = (2.5 * weights / weights.sum(-1, keepdims=True)).astype("f4")
    assert faults(changed(trace, router_score=scores, gate_weight=weights)) == []


def test_what_the_run_was_told_to_do_is_no_fault() -> None:
    wrong = negative(None)
    told = {**wrong.request, "interventions": [{"kind": "GroupLimitOff", "layer": 1}]}
    assert only(dataclasses.replace(wrong, request=told)).layers == (2,)
    told = {**wrong.request, "interventions": [{"kind": "GroupLimitOff", "layer": None}]}
    assert faults(dataclasses.replace(wrong, request=told)) == []


@pytest.mark.parametrize("missing", ["router_score", "expert_bias", "gate_weight", "group_kept"])
def test_what_was_not_recorded_is_not_judged(missing: str) -> None:
    trace = sound()
    assert faults(dataclasses.replace(trace, data=trace.data.drop_vars(missing))) == []


def test_unknown_experts_are_left_out() -> None:
    trace = negative(0.0)
    kept = np.repeat(trace.data["group_kept"].values, 4, -1)
    outside = ~np.take_along_axis(kept, trace.data["expert_id"].values.astype(int), -1).all(-1)
    wrong, right = (int(np.flatnonzero(mask)[0]) for mask in (outside[:, 0], ~outside.any(1)))
    for known, decisions in (((wrong, right), [1]), ((right,), [])):
        ids = np.full_like(trace.data["expert_id"].values, -1)
        ids[list(known), 0] = trace.data["expert_id"].values[list(known), 0]
        found = faults(changed(trace, kind="imported", expert_id=ids))
        assert [(fault.decisions, fault.of, fault.layers) for fault in found] == [(n, 2, (1,)) for n in decisions]


# --- routers of other families ---------------------------------------------------------------------------------------


@given(rule=rules() | st.none(), seed=st.integers(0, 50), dtype=st.sampled_from(["float32", "bfloat16"]))
def test_no_router_contradicts_its_own_rule(rule: RouterRule | None, seed: int, dtype: str) -> None:
    if rule:
        rule = dataclasses.replace(rule, normalise_weights=bool(rule.normalise_weights), routed_scale=1.5)
    trace = family_trace(rule, seed, table_layers=(1,))
    assert faults(dataclasses.replace(trace, origin=dict(trace.origin) | {"dtype": dtype})) == []


def test_weights_of_a_rule_without_weights_are_no_fault() -> None:
    rule = dataclasses.replace(QWEN3, normalise_weights=None, routed_scale=None)
    trace = family_trace(QWEN3)
    router = dict(trace.model["router"]) | {"rule": rule.to_json(), "note": "no rule gives the weights"}
    assert faults(dataclasses.replace(trace, model=dict(trace.model) | {"router": router})) == []


def test_weights_of_choices_that_compute_nothing_are_not_checked() -> None:
    """Zaya gives the choice of its last column the weight 0; no expert's weight changes by that."""
    rule = dataclasses.replace(QWEN3, normalise_weights=False)
    trace = family_trace(rule, idle_from=6)
    idle = trace.data["expert_id"].values >= 6
    assert idle.any()

    def weighed(values: np.ndarray) -> Trace:
        weights = trace.data["gate_weight"].copy(data=values.astype(np.float32))
        return dataclasses.replace(trace, data=trace.data.assign(gate_weight=weights))

    weights = trace.data["gate_weight"].values
    assert faults(weighed(np.where(idle, 0, weights))) == []
    (fault,) = faults(weighed(np.where(idle, 0, 2 * weights)))
    assert (fault.kind, fault.layers) == (consistency.OTHER_SCALE, (0, 1, 2))


def wrongly_stated(found: RouterRule, **changes: Any) -> set[tuple[str, tuple[int, ...]]]:
    """Return kinds and layers of the faults of a router that follows `found`, with another rule stated."""
    trace = family_trace(found, num_prompt=40, table_layers=(0,))
    router = dict(trace.model["router"]) | {"rule": dataclasses.replace(found, **changes).to_json()}
    return {
        (fault.kind, fault.layers)
        for fault in faults(dataclasses.replace(trace, model=dict(trace.model) | {"router": router}))
    }


def test_wrong_rule_of_another_family_is_a_fault() -> None:
    everywhere, by_score = (0, 1, 2), (1, 2)
    assert wrongly_stated(V4, routed_scale=2.0) == {(consistency.OTHER_SCALE, everywhere)}
    assert wrongly_stated(V4, normalise_weights=False) >= {(consistency.NORMALISED, everywhere)}
    assert wrongly_stated(V4, has_selection_bias=False) == {(consistency.OTHER_CHOICE, by_score)}
    on_logits = dataclasses.replace(V4, bias_on_logits=True)
    assert wrongly_stated(on_logits, bias_on_logits=False) == {(consistency.OTHER_CHOICE, by_score)}
    factors = dataclasses.replace(QWEN3, has_expert_factor=True)
    assert wrongly_stated(factors, has_expert_factor=False) == {(consistency.OTHER_WEIGHTS, everywhere)}
