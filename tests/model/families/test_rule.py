"""The search for a router's rule: routers of transformers with hand-computed decisions, and what a probe cannot decide.

The rule of each family is checked in `test_seam.py`, on the model that is built there.
"""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers.models.deepseek_v4.modeling_deepseek_v4 import DeepseekV4TopKRouter
from transformers.models.ernie4_5_moe.modeling_ernie4_5_moe import Ernie4_5_MoeTopKRouter
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssTopKRouter
from transformers.models.granitemoe.modeling_granitemoe import GraniteMoeTopKRouter
from transformers.models.inkling.modeling_inkling import InklingTopkRouter
from transformers.models.kolibri1.modeling_kolibri1 import Kolibri1TopKRouter
from transformers.models.llama4.modeling_llama4 import Llama4Router
from transformers.models.minimax_m2.modeling_minimax_m2 import MiniMaxM2TopKRouter
from transformers.models.mixtral.modeling_mixtral import MixtralTopKRouter
from transformers.models.olmoe.modeling_olmoe import OlmoeTopKRouter
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeTopKRouter

from model.families.found import BlockRouter, Found, comes_from, selects, weights_of
from model.families.rule import Case, find_rule, holds
from model.families.tape import RawRouting
from model.trace.router_rule import RouterRule
from tests.families import Watched, build, instrument
from tests.router_rules import OTHER, PROBE, RULES, described, found_in, routing_of

GREEDY = "group_limited_greedy"
BLOCKS_DIFFER = "the blocks differ in their number of experts, and one rule describes all blocks"
CONFIG = SimpleNamespace(
    hidden_size=4, num_experts=4, num_local_experts=4, moe_num_experts=4, n_routed_experts=4, num_experts_per_tok=2,
    norm_topk_prob=True, moe_norm_min=1e-12, scoring_func="sqrtsoftplus", routed_scaling_factor=1.5, n_shared_experts=1,
    route_scale=1.0, router_jitter_noise=0.0,
)  # fmt: skip
UNNORMALISED = SimpleNamespace(**vars(CONFIG) | {"norm_topk_prob": False})
LOGITS = [math.log(4), math.log(2), 0.0, 0.0]
THIRDS, SEVENTHS = [1 / 3, 2 / 3], [3 / 7, 4 / 7]
V4_LOGITS = [math.log(math.e**4 - 1), math.log(math.e - 1), math.log(math.e**0.25 - 1), math.log(math.e**2.25 - 1)]


def with_bias(router: nn.Module, values: list[float]) -> nn.Module:
    bias = next(tensor for name, tensor in router.state_dict().items() if "bias" in name)
    bias.copy_(torch.tensor(values).view_as(bias))
    return router


def recorded(router: nn.Module, hand: list[float], *args: Tensor) -> RawRouting:
    """Return the router's decision for 24 random rows of logits and, last, for the given ones."""
    rows = torch.cat([torch.randn(24, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([hand])])
    weight = router.weight
    with torch.no_grad():
        weight.copy_(torch.eye(*weight.shape))
        first, *others = router(rows, *args)
    if isinstance(router, Llama4Router):
        ids = first.topk(2).indices
        return RawRouting(others[0], ids, first.gather(-1, ids))
    return RawRouting(first, others[1], others[0])


def search(raw: RawRouting, tensors: dict[str, Tensor] | None = None, **config: Any) -> Found:
    return find_rule(
        {"block": Case(raw, tensors or {}, raw.logits_TC.shape[-1])}, config, torch.arange(len(raw.ids_TK))
    )


def random_raw(seed: int, rule: RouterRule, bias: Tensor | float = 0.0, num_tokens: int = 24) -> RawRouting:
    """Return a routing by a rule of softmax or sigmoid without groups, computed in torch."""
    logits = torch.randn(num_tokens, rule.num_experts, generator=torch.Generator().manual_seed(seed))
    affinity = logits.sigmoid() if rule.scoring == "sigmoid" else logits.softmax(-1)
    ids = ((logits if rule.bias_on_logits else affinity) + bias).topk(rule.top_k).indices
    weights = affinity.gather(-1, ids)
    weights = weights / weights.sum(-1, keepdim=True) if rule.normalise_weights else weights
    return RawRouting(logits, ids, weights * rule.routed_scale)


@pytest.mark.parametrize(
    ("router", "bias", "hand", "rule", "ids", "weights"),
    [
        (Qwen3MoeTopKRouter(CONFIG), None, LOGITS, "softmax, normalised", [0, 1], [2 / 3, 1 / 3]),
        (MixtralTopKRouter(CONFIG), None, LOGITS, "softmax, normalised", [0, 1], [2 / 3, 1 / 3]),
        (OlmoeTopKRouter(UNNORMALISED), None, LOGITS, "softmax", [0, 1], [1 / 2, 1 / 4]),
        (GraniteMoeTopKRouter(CONFIG), None, LOGITS, "softmax, normalised", [0, 1], [2 / 3, 1 / 3]),
        (GptOssTopKRouter(CONFIG), [0, 0, math.log(8), 0], LOGITS, "softmax, normalised", [2, 0], [2 / 3, 1 / 3]),
        (Llama4Router(CONFIG), None, LOGITS, "sigmoid", [0, 1], [4 / 5, 2 / 3]),
        (
            *(DeepseekV4TopKRouter(CONFIG), [-1.2, 0, 1.2, 0], V4_LOGITS),
            *("sqrtsoftplus, normalised x1.5, bias", [2, 3], [0.375, 1.125]),
        ),
        (Kolibri1TopKRouter(CONFIG), [-2, 0, 0, 1], LOGITS, "sigmoid, normalised, bias on logits", [3, 1], SEVENTHS),
        (
            Ernie4_5_MoeTopKRouter(CONFIG),
            [-0.4, 0, 0, 0.2],
            LOGITS,
            "softmax, normalised, bias",
            [3, 1],
            [1 / 3, 2 / 3],
        ),
    ],
)
def test_routers_of_transformers_with_decisions_worked_out_by_hand(
    router: nn.Module, bias: list[float] | None, hand: list[float], rule: str, ids: list[int], weights: list[float]
) -> None:
    raw = recorded(router if bias is None else with_bias(router, bias), hand)
    found = search(raw, dict(router.state_dict()))
    assert described(found) == rule
    check_last(found, raw, ids, weights)


def test_bias_that_the_block_gives_to_its_router() -> None:
    """MiniMax-M2: biased scores 0.3, 0.667, 0.5, 0.8; weights 1/2 and 2/3 over their sum."""
    bias = torch.tensor([-0.5, 0, 0, 0.3])
    raw = recorded(MiniMaxM2TopKRouter(CONFIG), LOGITS, bias)
    found = search(raw, {"e_score_correction_bias": bias})
    assert (described(found), found.bias_name) == ("sigmoid, normalised, bias", "e_score_correction_bias")
    check_last(found, raw, [3, 1], SEVENTHS)
    assert found.bias is not None
    assert found.bias.tolist() == [pytest.approx([-0.5, 0, 0, 0.3])]


def test_weights_that_share_their_sum_with_a_shared_expert_follow_no_rule() -> None:
    """Inkling: 0.8 and 2/3 over 0.8 + 2/3 + 1/2, the last of a shared expert with logit 0."""
    router = with_bias(InklingTopkRouter(CONFIG), [0.0] * 4)
    with torch.no_grad():
        router.weight.copy_(torch.cat([torch.eye(4), torch.zeros(1, 4)]))
        rows = torch.cat([torch.randn(24, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([LOGITS])])
        logits, weights, ids, _ = router(rows)
    assert sorted(weights[-1].tolist()) == pytest.approx([0.338983, 0.406780], rel=1e-5)
    found = search(RawRouting(logits, ids, weights), scoring_func="sigmoid")
    assert described(found) == "sigmoid, weights unknown"
    assert (found.rule.routed_scale, found.rule.normalise_weights) == (None, None)
    assert found.reason == (
        "the experts follow from the router's logits, but no rule that the app knows gives their weights"
    )
    assert holds(found, "block", RawRouting(logits, ids, weights / 3))
    assert not holds(found, "block", RawRouting(logits, (ids + 1) % 4, weights))


def check_last(found: Found, raw: RawRouting, ids: list[int], weights: list[float]) -> None:
    """Compare the last row with values worked out by hand: the router's, and what the rule makes of its logits."""
    given = dict(zip(raw.ids_TK[-1].tolist(), raw.weights_TK[-1].tolist(), strict=True))
    assert given == pytest.approx(dict(zip(ids, weights, strict=True)), rel=1e-5)
    assert found.rule is not None
    affinity = found.rule.affinity(raw.logits_TC[-1:].detach().numpy())
    assert weights_of(found.rule, affinity, np.array([ids]), found.blocks["block"])[0] == pytest.approx(weights, 1e-5)


def test_a_block_alone_can_follow_two_rules_and_all_together_one() -> None:
    """With a bias of 0, block "a" cannot tell a bias on logits from one on affinities; block "b" can."""
    rule = RouterRule(num_experts=8, top_k=2, bias_on_logits=True)
    biases = {"a": torch.zeros(8), "b": torch.linspace(-1, 1, 8)}
    cases = {path: Case(random_raw(1, rule, bias), {"e_bias": bias}, 8) for path, bias in biases.items()}
    alone = find_rule({"a": cases["a"]}, {}, torch.arange(24))
    assert described(alone) == "sigmoid, normalised, bias"
    assert alone.notes == (
        "the probe run does not decide whether a bias is added: yes or no; the app uses yes",
        "the probe run does not decide whether the bias is added to logits: no or yes; the app uses no",
    )
    together = find_rule(cases, {}, torch.arange(24))
    assert (described(together), together.notes) == ("sigmoid, normalised, bias on logits", ())


def test_the_configuration_decides_what_the_probe_does_not() -> None:
    """One selected expert with normalised weights: every weight is 1, whatever the scoring function."""
    raw = random_raw(2, RouterRule(num_experts=8, top_k=1, scoring="softmax", has_selection_bias=False))
    without, stated = search(raw), search(raw, scoring_func="sigmoid")
    assert (described(without), described(stated)) == ("softmax, normalised", "sigmoid, normalised")
    note = "the probe run does not decide the scoring function: {}; the app uses {}"
    assert without.notes == (note.format("softmax or sigmoid or sqrtsoftplus", "softmax"),)
    assert stated.notes == (note.format("sigmoid or softmax or sqrtsoftplus", "sigmoid"),)


def test_the_recorded_routing_overrules_the_configuration() -> None:
    raw = random_raw(3, RouterRule(num_experts=8, top_k=2, scoring="softmax", has_selection_bias=False))
    found = search(raw, norm_topk_prob=False, scoring_func="sigmoid", n_group=4, topk_group=1)
    assert described(found) == "softmax, normalised"
    assert found.notes == (
        "the probe run follows softmax, although the configuration states scoring_func sigmoid",
        "the gate weights of the probe run are normalised, although the configuration states norm_topk_prob false",
        "the probe run has no group limit, although the configuration states 4 groups of experts",
    )
    assert not search(raw, n_group=4, topk_group=1, topk_method="greedy").notes


def test_the_configuration_says_by_how_many_experts_a_group_is_scored() -> None:
    """One of two groups is kept. By its best the first one, by two the second; or the first one by both."""
    logits = torch.tensor([[0.9, 0.1, 0.6, 0.5]]).logit()
    for ids, scores, method in (([0, 1], "best expert", "noaux_tc"), ([2, 3], "two best experts", GREEDY)):
        raw = RawRouting(logits, torch.tensor([ids]), logits.sigmoid()[:, ids])
        note = f"the probe run scores a group by its {scores}, although the configuration states topk_method {method}"
        assert note in search(raw, n_group=2, topk_group=1, topk_method=method).notes
    logits = torch.tensor([[0.9, 0.4, 0.6, 0.5]]).logit()
    raw = RawRouting(logits, torch.tensor([[0, 1]]), logits.sigmoid()[:, [0, 1]])
    for method, number in (("noaux_tc", 2), (GREEDY, 1)):
        assert search(raw, n_group=2, topk_group=1, topk_method=method).rule.scores_per_group == number


def test_a_scale_is_measured_and_gets_the_digits_that_the_configuration_states() -> None:
    for scale, stated in ((2.827, {}), (1 / 3, {"route_scale": 1 / 3}), (1.0, {"routed_scaling_factor": 2.5})):
        found = search(random_raw(4, RouterRule(num_experts=8, top_k=2, routed_scale=scale)), **stated)
        assert found.rule.routed_scale == scale
        measured = (
            "the factor 2.827 of the gate weights is measured in the probe run; the configuration does not state it"
        )
        assert found.notes == ((measured,) if scale == 2.827 else ())


def test_a_stated_scale_near_1_is_told_from_1_in_bf16() -> None:
    """Weights in bf16 are within 1.6 % of both."""
    raw = random_raw(4, RouterRule(num_experts=8, top_k=2, routed_scale=1.01))
    raw = raw._replace(weights_TK=raw.weights_TK.bfloat16())
    assert search(raw, routed_scaling_factor=1.01).rule.routed_scale == 1.01
    assert search(raw, routed_scaling_factor=2.5).rule.routed_scale == 1.0


def test_factors_of_experts_are_found_by_their_values() -> None:
    raw, factors = random_raw(5, RouterRule(num_experts=8, top_k=3)), torch.linspace(0.5, 2, 8)
    raw = raw._replace(weights_TK=raw.weights_TK * factors[raw.ids_TK])
    found = search(raw, {"a.scale": factors.flip(0), "b.scale": factors, "b.bias": factors, "odd": torch.ones(5)})
    assert (found.factor_name, found.bias_name, found.notes) == ("b.scale", None, ())
    assert found.factor.tolist() == [factors.tolist()]


@pytest.mark.parametrize(
    ("cases", "reason"),
    [
        ({}, "no block was recorded"),
        ({"a": None}, "the router of a returns no logits"),
        ({"a": (8, 2), "b": (8, 3)}, BLOCKS_DIFFER),
        ({"a": "swapped"}, "no rule that the app knows selects the experts of a probe run"),
        ({"a": "infinite"}, "a router returned logits that are no finite numbers"),
    ],
)  # fmt: skip
def test_why_there_is_no_rule(cases: dict[str, Any], reason: str) -> None:
    raws = {path: _case_of(kind) for path, kind in cases.items()}
    found = find_rule({path: Case(raw, {}, 8) for path, raw in raws.items()}, {}, torch.arange(24))
    assert (found.rule, found.reason, found.bias, found.factor) == (None, reason, None, None)
    assert [(block.columns, block.top_k) for block in found.blocks.values()] == [
        (8, raw.ids_TK.shape[-1]) for raw in raws.values()
    ]
    assert not any(holds(found, path, raw) for path, raw in raws.items())


def _case_of(kind: Any) -> RawRouting:
    experts, top_k = kind if isinstance(kind, tuple) else (8, 2)
    raw = random_raw(6, RouterRule(num_experts=experts, top_k=top_k))
    if kind is None:
        return raw._replace(logits_TC=None)
    if kind == "infinite":
        return raw._replace(logits_TC=raw.logits_TC.clone().fill_(torch.inf))
    return raw._replace(ids_TK=raw.ids_TK.roll(1, 0)) if kind == "swapped" else raw


def test_scores_within_rounding_may_change_places() -> None:
    """Expert 2 trails expert 1 by 1e-7, expert 3 by 0.01; groups 0 and 1 of the second rule tie."""
    biased, slack = np.array([[0.9, 0.5, 0.5 - 1e-7, 0.49]]), np.array([1e-6])
    plain = RouterRule(num_experts=4, top_k=2)
    assert selects(plain, biased, np.array([[0, 1]]), slack)
    assert selects(plain, biased, np.array([[0, 2]]), slack)
    assert not selects(plain, biased, np.array([[0, 3]]), slack)
    assert not selects(plain, biased, np.array([[0, 0]]), slack)
    grouped = RouterRule(num_experts=6, top_k=2, num_groups=3, num_kept_groups=1)
    biased = np.array([[0.9, 0.5, 0.9, 0.5 - 1e-7, 0.8, 0.1]])
    assert selects(grouped, biased, np.array([[0, 1]]), slack)
    assert selects(grouped, biased, np.array([[2, 3]]), slack)
    assert not selects(grouped, biased, np.array([[0, 2]]), slack)
    assert not selects(grouped, biased, np.array([[4, 5]]), slack)


def test_a_kept_group_is_not_left_for_a_better_expert_elsewhere() -> None:
    grouped = RouterRule(num_experts=6, top_k=3, num_groups=3, num_kept_groups=2)
    biased, slack = np.array([[0.5, 0.5, 0.6, 0.3, 0.8, 0.0]]), np.array([1e-6])
    assert selects(grouped, biased, np.array([[0, 1, 2]]), slack)
    assert not selects(grouped, biased, np.array([[4, 0, 1]]), slack)
    assert not selects(grouped, biased, np.array([[0, 2, 3]]), slack)


def test_a_table_gives_experts_by_token_id() -> None:
    table, ids = np.array([[0, 1], [2, 3], [1, 3]]), np.array([[3, 1], [0, 1]])
    assert comes_from(table, torch.tensor([[2, 0]]), ids)
    assert not comes_from(table, torch.tensor([1, 0]), ids)
    assert not comes_from(table, torch.tensor([2]), ids)
    assert not comes_from(table, torch.tensor([2, 7]), ids)


def test_a_column_that_computes_nothing_has_weight_0() -> None:
    block = BlockRouter(columns=4, slots=3, top_k=2)
    rule = RouterRule(num_experts=4, top_k=2, normalise_weights=False)
    weights = weights_of(rule, np.array([[0.1, 0.2, 0.3, 0.4]], np.float32), np.array([[1, 3]]), block)
    assert weights.tolist() == [[pytest.approx(0.2), 0.0]]


@pytest.mark.parametrize("model_type", ["deepseek_v4", "lfm2_moe", "gemma4_text", "zaya"])
def test_in_bf16_rounding_of_scores_and_weights_is_allowed(model_type: str) -> None:
    model = build(model_type, dtype=torch.bfloat16)
    watched = Watched(model, instrument(model))
    found = found_in(watched, routing_of(watched, PROBE), PROBE)
    assert described(found) == RULES[model_type]
    other = routing_of(watched, OTHER)
    assert all(holds(found, path, raw, torch.tensor(OTHER)) for path, raw in other.items())
    assert not all(holds(found, path, raw._replace(logits_TC=-raw.logits_TC)) for path, raw in other.items())


def test_a_table_needs_the_tokens_and_numbers_must_be_finite() -> None:
    raw = random_raw(7, RouterRule(num_experts=4, top_k=2, has_selection_bias=False))
    table = raw.ids_TK.clone()
    found = find_rule({"a": Case(raw, {}, 4, table)}, {}, torch.arange(24))
    assert described(found) == "sigmoid, normalised, table"
    assert holds(found, "a", raw, torch.arange(24))
    assert not holds(found, "a", raw)
    assert not holds(found, "a", raw, torch.arange(24).roll(1))
    infinite = raw._replace(logits_TC=torch.full_like(raw.logits_TC, torch.nan))
    assert not holds(found, "a", infinite, torch.arange(24))
    elsewhere = find_rule({"a": Case(raw, {}, 4, table.roll(1, 0))}, {}, torch.arange(24))
    assert described(elsewhere) == "sigmoid, normalised"
