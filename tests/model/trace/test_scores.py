"""The scores that select experts: which variables they need, and in which layers they decide."""

import dataclasses

import numpy as np
import pytest

from model.trace import scores
from model.trace.observed_rule import rule_of
from model.trace.router_rule import RouterRule
from model.trace.trace import Trace
from tests.traces import QWEN3, V4, family_trace, random_trace


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        (QWEN3, ("router_score",)),
        (V4, ("router_score", "expert_bias")),
        (dataclasses.replace(V4, bias_on_logits=True), ("router_score", "expert_bias", "router_logit")),
    ],
)
def test_rule_says_which_variables_its_scores_need(rule: RouterRule, names: tuple[str, ...]) -> None:
    assert scores.needed(rule) == names
    assert scores.needed_for_selection(rule) == (*names, "expert_id")
    grouped = dataclasses.replace(rule, num_groups=4, num_kept_groups=2)
    assert scores.needed_for_selection(grouped) == (*names, "expert_id", "group_score", "group_kept")


def test_bias_is_added_where_the_rule_adds_it() -> None:
    data = family_trace(V4).data
    affinity, bias, logits = (data[name].values for name in ("router_score", "expert_bias", "router_logit"))
    on_logits = dataclasses.replace(V4, bias_on_logits=True)
    assert np.array_equal(scores.biased_scores(data, V4).values, affinity + bias)
    assert np.array_equal(scores.biased_scores(data, on_logits).values, logits + bias)
    assert np.array_equal(scores.biased_scores(data, QWEN3).values, affinity)


def test_router_without_groups_reaches_every_expert() -> None:
    assert scores.reachable(None, QWEN3) is True
    grouped = dataclasses.replace(QWEN3, num_groups=4, num_kept_groups=2)
    kept = scores.reachable(np.array([[True, False, False, True]]), grouped)
    assert np.array_equal(kept, [[True, True, False, False, False, False, True, True]])


def changed(trace: Trace, layer: int) -> Trace:
    knocked_out = {"kind": "KnockOut", "layer": layer, "expert": 0}
    return dataclasses.replace(trace, request=dict(trace.request) | {"interventions": [knocked_out]})


def test_scores_decide_neither_by_table_nor_after_an_intervention_nor_without_a_rule() -> None:
    assert scores.decided_layers(changed(random_trace(), 2)).values.tolist() == [True, False]
    assert scores.decided_layers(changed(family_trace(V4, table_layers=(0,)), 2)).values.tolist() == [
        False,
        True,
        False,
    ]
    assert not scores.decided_layers(family_trace(None)).any()


def test_margins_need_recorded_groups_unless_the_run_states_that_there_are_none() -> None:
    trace = family_trace(QWEN3)
    assert scores.give_margins(trace, trace.data, QWEN3)
    old = random_trace(num_groups=1, num_kept=1)
    assert scores.give_margins(old, old.data, rule_of(old))
    assert not scores.give_margins(old, old.data.drop_vars("group_score"), rule_of(old))
