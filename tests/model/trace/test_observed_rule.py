"""The router rule of a trace: recorded values, stated values, and stated values that contradict the recording."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from model.trace import chance
from model.trace.observed_rule import rule_known, rule_of
from model.trace.trace import Trace
from tests.traces import V4, family_trace, random_trace

SCORES = ("router_score", "expert_bias", "group_score", "group_kept")


def stated(**config: Any) -> Trace:
    """Return a trace with selected experts only, whose configuration has these keys."""
    trace = random_trace()  # experts 0 to 7
    return dataclasses.replace(trace, data=trace.data.drop_vars(SCORES), model={"name": "x", "config": config})


def recorded(config: Any = None, kept: Any = None, **request: Any) -> Trace:
    """8 experts in 4 groups of which 2 are kept in layers 1 and 2; in some layers another number."""
    trace = random_trace()
    data = trace.data.copy(deep=True)
    if kept is not None:
        data["group_kept"].loc[{"moe_layer": kept}] = True
    return dataclasses.replace(trace, data=data, model={"name": "x", "config": config}, request=request)


def test_recorded_axes_need_no_configuration() -> None:
    trace = recorded()
    rule = rule_of(trace)
    assert trace.shape.num_experts == 8
    assert (rule.num_experts, rule.num_groups, rule.num_kept_groups) == (8, 4, 2)
    assert [rule.group_of(expert) for expert in (0, 1, 2, 7)] == [0, 0, 1, 3]


def test_what_is_stated_counts_where_nothing_was_recorded() -> None:
    rule = rule_of(stated(n_routed_experts=16, n_group=8, topk_group=4))
    assert (rule.num_experts, rule.num_groups, rule.num_kept_groups) == (16, 8, 4)


@pytest.mark.parametrize(
    ("config", "groups", "kept"),
    [
        ({"n_group": 3, "topk_group": 2}, 1, 1),  # 3 does not divide 8
        ({"n_group": 4, "topk_group": 9}, 4, 4),
        ({"n_group": 4}, 4, 1),
        ({"n_group": "4", "topk_group": [2]}, 1, 1),
        ({"n_group": 0, "topk_group": None}, 1, 1),
        ({"n_group": -2, "topk_group": -1}, 1, 1),
    ],
)
def test_what_cannot_be_is_not_believed(config: dict[str, Any], groups: int, kept: int) -> None:
    rule = rule_of(stated(n_routed_experts=8, **config))
    assert (rule.num_groups, rule.num_kept_groups) == (groups, kept)


def test_trace_that_does_not_say_how_many_experts_there_are() -> None:
    trace = stated()
    rule = rule_of(trace)
    assert trace.shape.num_experts is None
    assert (rule.num_experts, rule.num_groups, rule.num_kept_groups) == (1, 1, 1)
    assert chance.band_of(rule, 10) is None


def test_groups_are_counted_where_the_run_chose_as_trained() -> None:
    off = {"kind": "GroupLimitOff", "layer": 1}
    assert rule_of(recorded(kept=1, interventions=[off])).num_kept_groups == 2
    everywhere = recorded({"topk_group": 2}, kept=[1, 2], interventions=[off | {"layer": None}])
    assert rule_of(everywhere).num_kept_groups == 2  # as stated
    assert rule_of(recorded(kept=[1, 2])).num_kept_groups == 4


def test_rule_that_the_run_found_counts() -> None:
    trace = family_trace(V4)
    assert rule_of(trace) == V4
    assert rule_known(trace)
    fewer = dataclasses.replace(trace, data=trace.data.isel(rank=[0]).drop_vars("rank_order"))
    assert rule_of(fewer) == dataclasses.replace(V4, top_k=1)  # as an intervention may set it
    assert rule_known(recorded())


def test_unknown_rule_keeps_the_numbers_of_experts_and_gives_no_weight() -> None:
    trace = family_trace(None)
    rule = rule_of(trace)
    assert not rule_known(trace)
    assert (rule.num_experts, rule.top_k, rule.num_groups, rule.has_selection_bias) == (8, 2, 1, False)
    assert np.isnan(rule.weights(np.ones(2))).all()


def test_chance_is_that_of_the_layout() -> None:
    assert chance.band_of(rule_of(recorded()), 50) == chance.load_band(50, 8, 2, 4, 2)
    assert chance.band_of(rule_of(recorded()), 0) is None


@pytest.mark.parametrize("scale", ["2.5", None, 10**400, float("nan")])
def test_factor_that_is_no_number_is_unknown(scale: object) -> None:
    assert rule_of(recorded({"routed_scaling_factor": scale})).routed_scale is None
