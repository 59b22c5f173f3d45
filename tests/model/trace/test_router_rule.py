"""The router rule against hand-computed decisions, published configurations, and the network's own router."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.network.config import ModelConfig
from model.network.moe import Router
from model.trace.router_rule import IDENTITY, SCORINGS, SIGMOID, SOFTMAX, SQRTSOFTPLUS, RouterRule, margin
from model.trace.trace import TraceError
from tests.models import tiny_config

SCORES = np.array([0.9, 0.1, 0.6, 0.5, 0.8, 0.05, 0.3, 0.2])
BIAS = np.array([0, 0, 0, 0, -0.3, 0, 0.4, 0.25])
GATE = RouterRule(num_experts=8, top_k=3, num_groups=4, num_kept_groups=2, routed_scale=2.5)
CONFIG = {
    "n_routed_experts": 8, "num_experts_per_tok": 3, "n_group": 4, "topk_group": 2, "norm_topk_prob": True,
    "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "topk_method": "noaux_tc",
}  # fmt: skip


def test_decision_worked_out_by_hand() -> None:
    """Group sums 1.0, 1.1, 0.55, 1.15 keep groups 1 and 3; weights are 0.6, 0.5 and 0.3 over their sum, times 2.5."""
    biased = GATE.biased(SCORES, BIAS)
    assert biased == pytest.approx([0.9, 0.1, 0.6, 0.5, 0.5, 0.05, 0.7, 0.45])
    scores = GATE.group_scores(biased)
    assert scores == pytest.approx([1.0, 1.1, 0.55, 1.15])
    assert GATE.keep_groups(scores).tolist() == [False, True, False, True]
    ids = GATE.expert_ids(biased)
    assert ids.tolist() == [2, 3, 6]
    assert GATE.weights(SCORES[ids]) == pytest.approx([1.0714286, 0.8928571, 0.5357143], abs=1e-6)
    assert GATE.shares(SCORES[ids]).sum() == pytest.approx(1)
    assert [GATE.group_of(expert) for expert in (0, 1, 2, 7)] == [0, 0, 1, 3]
    assert (GATE.group_size, GATE.fair_share) == (2, 3 / 8)


def test_margins_worked_out_by_hand() -> None:
    biased, selected = GATE.biased(SCORES, BIAS), np.isin(np.arange(8), [2, 3, 6])
    reachable = np.repeat([False, True, False, True], 2)
    assert margin(biased, selected, reachable) == pytest.approx(0.5 - 0.45)
    assert margin(GATE.group_scores(biased), np.array([False, True, False, True])) == pytest.approx(1.1 - 1.0)
    assert margin(biased, selected) == pytest.approx(0.5 - 0.9)  # against the rule without groups
    assert margin(biased, np.full(8, True)) == np.inf


def test_rule_without_the_group_limit() -> None:
    assert GATE.ungrouped.expert_ids(GATE.biased(SCORES, BIAS)).tolist() == [0, 2, 6]


def test_negative_biased_scores_are_masked_and_not_zeroed() -> None:
    """With a bias of -1 almost everywhere, masking by zero would let experts outside the kept groups win."""
    biased = SCORES - [0.5, 0.5, 1, 1, 1, 1, 1, 1]
    ids = GATE.expert_ids(biased)
    assert ids.tolist() == [0, 1, 2]
    assert GATE.weights(SCORES[ids]) == pytest.approx([1.40625, 0.15625, 0.9375])


def test_rule_of_v2() -> None:
    """Groups by their best alone: 0.3 and 0.28 beat 0.2; weights are the affinities times the factor."""
    rule = RouterRule(
        num_experts=6, top_k=2, num_groups=3, num_kept_groups=2, scores_per_group=1, normalise_weights=False,
        routed_scale=16.0,
    )  # fmt: skip
    affinity = np.array([0.3, 0.01, 0.2, 0.19, 0.28, 0.02])
    ids = rule.expert_ids(affinity)
    assert ids.tolist() == [0, 4]
    assert rule.weights(affinity[ids]) == pytest.approx([4.8, 4.48])


LOGITS = np.log(np.array([4.0, 2.0, 1.0, 1.0]))
PLAIN = RouterRule(num_experts=4, top_k=2, scoring=SOFTMAX, has_selection_bias=False)


def decide(rule: RouterRule, logits: np.ndarray, bias: Any = 0, factors: Any = None) -> tuple[list[int], np.ndarray]:
    """Return the selected experts and their weights from logits [expert]."""
    affinity = rule.affinity(logits)
    ids = rule.expert_ids(rule.biased(affinity, np.asarray(bias), logits))
    return ids.tolist(), rule.weights(affinity[ids], None if factors is None else np.asarray(factors)[ids])


@pytest.mark.parametrize(
    ("changes", "weights"),
    [
        ({}, [2 / 3, 1 / 3]),  # Qwen3 with norm_topk_prob, Mixtral; gpt-oss and Granite: softmax over these two logits
        ({"normalise_weights": False}, [1 / 2, 1 / 4]),  # OLMoE, Jamba
        ({"scoring": SIGMOID, "normalise_weights": False}, [4 / 5, 2 / 3]),  # Llama 4
    ],
)
def test_rules_of_families_without_a_bias(changes: dict[str, Any], weights: list[float]) -> None:
    assert PLAIN.affinity(LOGITS) == pytest.approx([1 / 2, 1 / 4, 1 / 8, 1 / 8])
    ids, made = decide(dataclasses.replace(PLAIN, **changes), LOGITS)
    assert (ids, made) == ([0, 1], pytest.approx(weights))


def test_linear_bias_of_gpt_oss_is_part_of_the_logits() -> None:
    assert decide(PLAIN, LOGITS + np.log([1, 1, 8, 1])) == ([0, 2], pytest.approx([1 / 3, 2 / 3]))


def test_rule_of_v4() -> None:
    """Affinities 2, 1, 0.5, 1.5; with the bias 0.8, 1, 1.7, 1.5; weights 0.5 and 1.5 over their sum, times 1.5."""
    rule = RouterRule(num_experts=4, top_k=2, scoring=SQRTSOFTPLUS, routed_scale=1.5)
    logits, bias = np.array([3.981515, 0.541325, -1.258692, 2.138622]), np.array([-1.2, 0, 1.2, 0])
    affinity = rule.affinity(logits)
    assert affinity == pytest.approx([2, 1, 0.5, 1.5], abs=1e-6)
    assert rule.biased(affinity, bias) == pytest.approx([0.8, 1, 1.7, 1.5], abs=1e-6)
    assert decide(rule, logits, bias) == ([2, 3], pytest.approx([0.375, 1.125], abs=1e-6))


@pytest.mark.parametrize(
    ("changes", "bias", "weights"),
    [
        ({"scoring": SIGMOID}, [-0.5, 0, 0, 0.3], [4 / 7, 3 / 7]),  # MiniMax-M2: on affinities
        ({"scoring": SIGMOID, "bias_on_logits": True}, [-2, 0, 0, 1], [4 / 7, 3 / 7]),  # Kolibri
        ({"scoring": SOFTMAX}, [-0.4, 0, 0, 0.2], [2 / 3, 1 / 3]),  # Ernie: on probabilities
    ],
)
def test_bias_counts_where_the_rule_adds_it(changes: dict[str, Any], bias: list[float], weights: list[float]) -> None:
    rule = dataclasses.replace(PLAIN, has_selection_bias=True, **changes)
    assert decide(rule, LOGITS, bias) == ([1, 3], pytest.approx(weights))


def test_bias_on_logits_needs_the_logits() -> None:
    rule = dataclasses.replace(PLAIN, bias_on_logits=True)
    assert rule.biased(PLAIN.affinity(LOGITS), -LOGITS, LOGITS) == pytest.approx(0)
    with pytest.raises(ValueError, match="adds its bias to the logits"):
        rule.biased(PLAIN.affinity(LOGITS), -LOGITS)


def test_probabilities_and_a_factor_per_expert() -> None:
    """Gemma 4: 2/3 and 1/3 of the two probabilities, times the factors 3 and 6 of these experts."""
    rule = dataclasses.replace(PLAIN, scoring=IDENTITY, has_expert_factor=True)
    probabilities = np.array([1 / 2, 1 / 4, 1 / 8, 1 / 8])
    assert decide(rule, probabilities, factors=[3, 6, 0, 0]) == ([0, 1], pytest.approx([2, 2]))
    assert np.isnan(decide(rule, probabilities)[1]).all()
    assert decide(dataclasses.replace(rule, has_expert_factor=False), probabilities, factors=[3, 6, 0, 0])[
        1
    ] == pytest.approx([2 / 3, 1 / 3])


def test_affinity_of_v4_neither_overflows_nor_vanishes() -> None:
    rule = dataclasses.replace(PLAIN, scoring=SQRTSOFTPLUS)
    logits = np.array([-40.0, 0.0, 900.0])
    assert rule.affinity(logits) == pytest.approx([np.exp(-20), np.sqrt(np.log(2)), 30])
    assert rule.logit(rule.affinity(logits)) == pytest.approx(logits, abs=1e-9)
    assert rule.affinity(logits.astype(np.float32)).dtype == np.float32


def test_group_of_one_has_no_second_best() -> None:
    with pytest.raises(ValueError, match="a group of 1 has no 2 best experts"):
        RouterRule(num_experts=3, top_k=1, num_groups=3, num_kept_groups=2).select(np.array([[[0.3, 0.1, 0.2]]]))


def test_what_is_not_known_gives_no_number() -> None:
    affinity = SCORES[:3].astype(np.float32)
    unnormalised, unscaled = (dataclasses.replace(GATE, **{k: None}) for k in ("normalise_weights", "routed_scale"))
    assert np.isnan(unnormalised.weights(affinity)).all()
    assert np.isnan(unnormalised.shares(affinity)).all()
    assert np.isnan(unscaled.weights(affinity)).all()
    assert unscaled.shares(affinity) == pytest.approx(affinity / affinity.sum())


@given(drawn=st.lists(st.floats(-12, 12), min_size=2, max_size=8), shift=st.floats(-5, 5))
def test_logits_are_recovered(drawn: list[float], shift: float) -> None:
    logits = np.array(drawn)
    for name, scoring in SCORINGS.items():
        rule = dataclasses.replace(GATE, scoring=name)
        again = rule.logit(rule.affinity(logits))
        first = 0 if scoring.is_exact else again[0] - logits[0]
        assert again - first == pytest.approx(logits, abs=1e-6)
    softmax = dataclasses.replace(GATE, scoring=SOFTMAX)
    assert softmax.affinity(logits + shift) == pytest.approx(softmax.affinity(logits))


def test_affinity_that_was_rounded_to_one_has_no_finite_logit() -> None:
    assert GATE.logit(np.array([0, 1], np.float32)).tolist() == [-np.inf, np.inf]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"scoring_func": None, "topk_method": None, "model_type": "kimi_k2"}, {}),
        ({"n_group": None, "topk_group": None}, {"num_groups": 1, "num_kept_groups": 1}),
        ({"scoring_func": "tanh"}, {"scoring": "tanh"}),  # the layout is as good as ever
        (
            {"model_type": "deepseek_v2", "scoring_func": None, "topk_method": "greedy", "norm_topk_prob": False},
            {"scoring": SOFTMAX, "num_groups": 1, "num_kept_groups": 1, "has_selection_bias": False,
             "scores_per_group": 1, "normalise_weights": False},
        ),
        (
            {"model_type": "deepseek_v2", "scoring_func": "softmax", "topk_method": "group_limited_greedy"},
            {"scoring": SOFTMAX, "has_selection_bias": False, "scores_per_group": 1},
        ),
        ({"norm_topk_prob": "false"}, {"normalise_weights": None}),
        ({"routed_scaling_factor": "2.5"}, {"routed_scale": None}),
        ({"routed_scaling_factor": 10**400}, {"routed_scale": None}),
    ],
)  # fmt: skip
def test_published_configurations(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    assert RouterRule.of(CONFIG | changes) == dataclasses.replace(GATE, **expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_routed_experts": None}, "lacks n_routed_experts"),
        ({"num_experts_per_tok": True}, "lacks num_experts_per_tok, or it is no whole number"),
        ({"num_experts_per_tok": 9}, "contradicts itself"),
        ({"n_group": 3}, "contradicts itself"),
        ({"n_group": 0}, "contradicts itself"),
    ],
)
def test_configurations_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TraceError, match=message):
        RouterRule.of(CONFIG | changes)


# --- as JSON ---------------------------------------------------------------------------------------------------------


@st.composite
def rules(draw: st.DrawFn) -> RouterRule:
    """Any rule that a router can follow."""
    num_groups, size = draw(st.integers(1, 4)), draw(st.integers(2, 6))
    num_kept = draw(st.integers(1, num_groups))
    flag = st.booleans()
    return RouterRule(
        num_experts=num_groups * size, top_k=draw(st.integers(1, num_kept * size)), num_groups=num_groups,
        num_kept_groups=num_kept, scoring=draw(st.sampled_from(sorted(SCORINGS))), has_selection_bias=draw(flag),
        bias_on_logits=draw(flag), scores_per_group=draw(st.integers(1, 2)), normalise_weights=draw(flag | st.none()),
        has_expert_factor=draw(flag), routed_scale=draw(st.none() | st.floats(-1e30, 1e30)),
    )  # fmt: skip


@given(rule=rules())
def test_rule_survives_json(rule: RouterRule) -> None:
    assert RouterRule.from_json(json.loads(json.dumps(rule.to_json()))) == rule


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_experts": 0}, "num_experts of a router rule cannot be 0"),
        ({"num_experts": 1 << 40}, "num_experts of a router rule cannot be 1099511627776"),
        ({"top_k": True}, "top_k of a router rule cannot be True"),
        ({"top_k": 5}, "contradicts itself"),
        ({"num_groups": 3}, "contradicts itself"),
        ({"num_kept_groups": 2}, "contradicts itself"),
        ({"num_groups": 4}, "contradicts itself"),  # the one kept group has one expert, a token selects two
        ({"num_groups": 4, "num_kept_groups": 2, "scores_per_group": 2}, "scores groups of 1 by 2"),
        ({"scoring": "tanh"}, "scoring of a router rule cannot be 'tanh'"),
        ({"scoring": ["sigmoid"]}, "scoring of a router rule cannot be"),
        ({"scores_per_group": 3}, "scores_per_group of a router rule"),
        ({"normalise_weights": 1}, "normalise_weights of a router rule"),
        ({"has_expert_factor": None}, "has_expert_factor of a router rule"),
        ({"routed_scale": float("nan")}, "routed_scale of a router rule cannot be nan"),
        ({"routed_scale": 10**400}, "routed_scale of a router rule"),
        ({"routed_scale": "2.5"}, "routed_scale of a router rule cannot be '2.5'"),
        ({"temperature": 1.0}, "and nothing else"),
    ],
)
def test_rules_that_cannot_be_are_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TraceError, match=message) as refusal:
        RouterRule.from_json(PLAIN.to_json() | changes)
    assert len(str(refusal.value)) < 300
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("stated", [None, [], "sigmoid", {}, {"num_experts": 4, "top_k": 2}])
def test_incomplete_rule_is_refused(stated: object) -> None:
    with pytest.raises(TraceError, match="a router rule must state num_experts, top_k, "):
        RouterRule.from_json(stated)


# --- the network's router --------------------------------------------------------------------------------------------


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    """Any rule that the network runs: scoring, bias, groups, top-k, weights."""
    num_groups, size = draw(st.integers(1, 4)), draw(st.integers(2, 6))
    num_kept_groups = draw(st.integers(1, num_groups))
    return dataclasses.replace(
        tiny_config(),
        num_experts=num_groups * size,
        num_groups=num_groups,
        num_kept_groups=num_kept_groups,
        top_k=draw(st.integers(1, num_kept_groups * size)),
        scoring=draw(st.sampled_from([SIGMOID, SOFTMAX])),
        selection=draw(st.sampled_from(["noaux_tc", "group_limited_greedy"])),
        normalise_weights=draw(st.booleans()),
        routed_scale=draw(st.sampled_from([1.0, 2.5, 16.0])),
    )


@given(config=configs(), seed=st.integers(0, 2**32 - 1), width=st.floats(0.01, 3))
def test_network_follows_the_same_rule(config: ModelConfig, seed: int, width: float) -> None:
    rng, router = np.random.default_rng(seed), Router(config)
    router.weight.data = torch.tensor(rng.normal(0, width, router.weight.shape), dtype=torch.float32)
    if config.has_selection_bias:
        router.expert_bias.copy_(torch.tensor(rng.normal(0, 0.3, config.num_experts)))
    x_TD = torch.tensor(rng.normal(0, 1, (9, config.hidden_size)), dtype=torch.float32)
    with torch.no_grad():
        made = router(x_TD)
        logits = torch.nn.functional.linear(x_TD, router.weight).numpy()
    rule = RouterRule.of(config.to_json())
    affinity = rule.affinity(logits)
    assert affinity == pytest.approx(made.scores_TE.numpy(), rel=1e-5, abs=1e-7)
    # From here on by the router's own affinities, so that a last bit decides nothing.
    biased = rule.biased(made.scores_TE.numpy(), router.expert_bias.numpy())
    group_scores, ids = rule.group_scores(biased), rule.expert_ids(biased)
    assert group_scores == pytest.approx(made.group_scores_TG.numpy(), rel=1e-6)
    kept, selected = rule.keep_groups(group_scores), rule.select(biased)
    reachable = np.repeat(kept, rule.group_size, -1)
    clear = (margin(group_scores, kept) > 1e-6) & (margin(biased, selected, reachable) > 0)
    order = made.expert_ids_TK.argsort(-1)
    assert np.array_equal(kept[clear], made.kept_groups_TG.numpy()[clear])
    assert np.array_equal(ids[clear], made.expert_ids_TK.gather(-1, order).numpy()[clear])
    weights = rule.weights(np.take_along_axis(made.scores_TE.numpy(), ids, -1))
    assert weights[clear] == pytest.approx(made.weights_TK.gather(-1, order).numpy()[clear], rel=1e-5)


def test_every_scoring_function_is_of_one_kind() -> None:
    """What is said of them holds: they keep the order, and affinities that saturate lie between 0 and 1."""
    logits = np.linspace(-30, 30, 7)
    for scoring in SCORINGS.values():
        affinity = scoring.affinity(logits)
        assert (np.diff(affinity) > 0).all()
        if scoring.saturates:
            assert 0 <= affinity.min() < 1e-9
            assert 1 - 1e-9 < affinity.max() <= 1
