"""Margins of routing decisions, and near ties: decisions that rounding in a dtype could change.

A margin is the lowest selected score minus the highest score that was not selected, in units of biased score. A margin
below zero means that the recorded scores do not give the recorded selection: an intervention changed the selection, the
experts follow from the token id (`scores.decided_layers` has neither), or the router does not follow the rule.

Whether a decision is a near tie depends on the `reach` of its scores: how far rounding may move each of them. The reach
grows with the spread of a token's scores over the experts, because 160 softmax scores around 0.006 lie closer together
than 8 sigmoid scores.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

from model.trace.router_rule import SQRTSOFTPLUS, RouterRule, margin
from model.trace.routing import by_expert, one_hot
from model.trace.scores import biased_scores, needed, needed_for_selection, reachable, require

# dtype -> share of the logits' standard deviation; the docstring of `tolerance` has the measurements.
_TOLERANCES = {"float32": 1e-4, "bfloat16": 3e-2, "float16": 4e-3}
_ROUNDOFF = {"float32": 2.0**-24, "bfloat16": 2.0**-9, "float16": 2.0**-12}
DTYPES = tuple(_TOLERANCES)
_GROUP_NEEDS = ("group_score", "group_kept")


def tolerance(dtype: str) -> float:
    """Return how far rounding in this dtype may move a router logit, as a share of the logits' standard deviation.

    The standard deviation is that of one token's logits over the experts of a layer.

    The tolerances of bfloat16 and float16 were measured on 2026-11-30 on a CPU, with the router in fp32. Only first
    differences from the fp32 run count: decisions with no differing decision in a lower MoE layer, of this token or an
    earlier one. Other differences may follow from first differences.

    - mini-v3, 20 texts with 1,969 tokens in all, 9,845 decisions. 63 first differences in bfloat16: a tolerance of
      0.015 explains all of them, 0.005 half of them. 16 first differences in float16: 0.003 explains all of them.
    - Random models of four MoE layers with 16 to 384 experts, sigmoid and softmax, 2,000 decisions. 39 first
      differences in bfloat16: 0.02 explains all of them. 10 in float16: 0.003 explains all of them.

    A deeper model may drift further. For two unrelated random routers, a tolerance of 0.1 explains one of 1,991
    differing decisions, and 0.05 explains none.

    In float32 no selection differed between feeding tokens at once and one by one, over ten shapes and 5,988 decisions
    (`tests/benchmarks/rounding.py`). The largest move of a logit was 8e-6; the tolerance of float32 is about ten times
    that. Between two implementations, scores differ by up to 8e-6 (`tests/parity.py`).

    Raises:
        ValueError: no tolerance was measured for the dtype.
    """
    if dtype not in _TOLERANCES:
        raise ValueError(f"no tolerance was measured for {dtype!r:.40}; known are {', '.join(_TOLERANCES)}")
    return _TOLERANCES[dtype]


def reach(affinity: np.ndarray, dtype: str) -> np.ndarray:
    """Return how far rounding in this dtype may move each affinity, [..., expert].

    A logit moves by `tolerance` times the standard deviation of the token's logits. An affinity s moves by s (1 - s)
    times as much, with sigmoid and with softmax, and is then rounded to the dtype too.

    Raises:
        ValueError: no tolerance was measured for the dtype.
    """
    share = tolerance(dtype)
    tiny = np.float32(1e-7)
    inside = np.clip(affinity.astype(np.float32), tiny, 1 - tiny)
    spread = (np.log(inside) - np.log1p(-inside)).std(-1, keepdims=True)
    return inside * (share * spread * (1 - inside) + np.float32(_ROUNDOFF[dtype]))


def reach_of_scores(at: Mapping[str, np.ndarray], dtype: str, rule: RouterRule) -> np.ndarray:
    """Return how far rounding in this dtype may move each biased score, [..., expert].

    A logit moves as in `reach`. A score that is logit plus bias moves as much as the logit. The square root s of a
    softplus moves by (1 - exp(-s^2)) / 2 s times as much, which is its slope. Other affinities move as in `reach`.

    Args:
        at: `router_score`, and with `bias_on_logits` also `router_logit`, [..., expert].
        dtype: dtype of the run, or of a run to compare it with.
        rule: rule of the router.

    Raises:
        ValueError: no tolerance was measured for the dtype.
    """
    share, roundoff = tolerance(dtype), np.float32(_ROUNDOFF[dtype])
    if rule.bias_on_logits:
        logits = at["router_logit"].astype(np.float32)
        return share * logits.std(-1, keepdims=True) + roundoff * np.abs(logits)
    if rule.scoring == SQRTSOFTPLUS:
        affinity = np.maximum(at["router_score"].astype(np.float32), np.float32(1e-7))
        spread = rule.logit(affinity).std(-1, keepdims=True).astype(np.float32)
        return share * spread * -np.expm1(-(affinity**2)) / (2 * affinity) + roundoff * affinity
    return reach(at["router_score"], dtype)


@dataclasses.dataclass(frozen=True, slots=True)
class Scores:
    """The biased scores of decisions, and how far rounding may move them.

    Attributes:
        biased: biased scores, [..., expert].
        reach: how far rounding may move each score, [..., expert].
        per_group: number of best biased scores whose sum is a group's score.
    """

    biased: np.ndarray
    reach: np.ndarray
    per_group: int

    def give_experts(self, selected: np.ndarray, reachable: np.ndarray | bool) -> np.ndarray:
        """Return whether rounding could make the scores give this selection, [...] bool.

        Args:
            selected: bool mask [..., expert].
            reachable: bool mask [..., expert] of the experts in kept groups; True if there are no groups.
        """
        return margin(self.biased + np.where(selected, self.reach, -self.reach), selected, reachable) >= 0

    def force_experts(self, selected: np.ndarray, reachable: np.ndarray | bool) -> np.ndarray:
        """Return whether the scores give this selection however they are rounded. Arguments: see `give_experts`."""
        return margin(self.biased - np.where(selected, self.reach, -self.reach), selected, reachable) > 0

    def give_groups(self, kept: np.ndarray) -> np.ndarray:
        """Return whether rounding could make the scores keep the groups in `kept` [..., group], [...] bool."""
        raised, lowered = self._group_scores(kept.shape[-1])
        return margin(np.where(kept, raised, lowered), kept) >= 0

    def force_groups(self, kept: np.ndarray) -> np.ndarray:
        """Return whether the scores keep these groups however they are rounded; `kept` is a bool mask [..., group]."""
        raised, lowered = self._group_scores(kept.shape[-1])
        return margin(np.where(kept, lowered, raised), kept) > 0

    def _group_scores(self, num_groups: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the groups' scores, [..., group], from biased scores plus their reach, and minus their reach."""
        num_experts, per_group = self.biased.shape[-1], self.per_group
        rule = RouterRule(num_experts=num_experts, top_k=1, num_groups=num_groups, scores_per_group=per_group)
        return rule.group_scores(self.biased + self.reach), rule.group_scores(self.biased - self.reach)


def place_margin(data: xr.Dataset, rule: RouterRule) -> xr.DataArray:
    """Return the last selected expert's margin over the best unselected one in the kept groups, [token, moe_layer].

    The margin is infinite if the kept groups have no unselected expert, and NaN if a selected expert is unknown.

    Args:
        data: variables of a trace: those of `scores.needed`, `expert_id`, and `group_kept` if the rule has groups.
        rule: rule of the router.

    Raises:
        MissingScoresError: a variable was not recorded.
    """
    require(data, (*needed(rule), "expert_id", *(["group_kept"] if rule.num_groups > 1 else [])))
    biased = biased_scores(data, rule).transpose("token", "moe_layer", "expert")
    kept = data["group_kept"].values if "group_kept" in data else None
    values = margin(biased.values, one_hot(data["expert_id"], biased.sizes["expert"]), reachable(kept, rule))
    return biased.isel(expert=0, drop=True).copy(data=values).where((data["expert_id"] >= 0).all("rank"))


def group_margin(data: xr.Dataset, rule: RouterRule) -> xr.DataArray:
    """Return the margin of the last kept group over the best dropped group, [token, moe_layer].

    The margin is infinite if every group is kept.

    Args:
        data: `group_score` and `group_kept` [token, moe_layer, group], as in a trace; unless the rule has no groups.
        rule: rule of the router.

    Raises:
        MissingScoresError: a variable was not recorded.
    """
    if rule.num_groups == 1:
        require(data, ("expert_id",))
        first = data["expert_id"].isel(rank=0, drop=True)
        return first.copy(data=np.full(first.shape, np.inf, np.float32))
    require(data, _GROUP_NEEDS)
    score, kept = (data[name].transpose("token", "moe_layer", "group") for name in _GROUP_NEEDS)
    return score.isel(group=0, drop=True).copy(data=margin(score.values, kept.values))


def near_ties(data: xr.Dataset, dtype: str, rule: RouterRule) -> xr.DataArray:
    """Return a mask of decisions in which rounding could change the experts or groups, [token, moe_layer] bool.

    A decision with an unknown margin, or with a margin far below zero, is no near tie. Most near ties do not change,
    because few scores move by their whole reach.

    Args:
        data: variables of a trace; see `place_margin` and `group_margin`.
        dtype: dtype of the run, or of a run to compare it with.
        rule: rule of the router.

    Raises:
        MissingScoresError: scores, bias, kept groups or selected experts were not recorded.
        ValueError: no tolerance was measured for the dtype.
    """
    return near_places(data, dtype, rule) | near_groups(data, dtype, rule)


def near_places(data: xr.Dataset, dtype: str, rule: RouterRule) -> xr.DataArray:
    """Return a mask of decisions in which rounding could replace the last selected expert, [token, moe_layer] bool.

    Raises:
        MissingScoresError, ValueError: as for `near_ties`.
    """
    masks = functools.partial(_selection, rule)
    return _near(data, dtype, rule, Scores.give_experts, Scores.force_experts, masks)


def near_groups(data: xr.Dataset, dtype: str, rule: RouterRule) -> xr.DataArray:
    """Return a mask of decisions in which rounding could replace the last kept group, [token, moe_layer] bool.

    Raises:
        MissingScoresError, ValueError: as for `near_ties`.
    """
    if rule.num_groups == 1:
        return xr.zeros_like(data["expert_id"].isel(rank=0, drop=True), bool)
    return _near(data, dtype, rule, Scores.give_groups, Scores.force_groups, lambda at: (at["group_kept"],))


def follow(data: xr.Dataset, dtype: str, rule: RouterRule) -> xr.DataArray:
    """Return whether the recorded scores, with rounding, can give the recorded experts and groups, [token, moe_layer].

    Raises:
        MissingScoresError, ValueError: as for `near_ties`.
    """

    def judge(scores: Scores, at: _Layer) -> np.ndarray:
        groups = rule.num_groups == 1 or scores.give_groups(at["group_kept"])
        return scores.give_experts(*_selection(rule, at)) & groups

    return _of_layers(data, dtype, rule, judge)


_Layer = dict[str, np.ndarray]


def _near(
    data: xr.Dataset,
    dtype: str,
    rule: RouterRule,
    give: Callable[..., np.ndarray],
    force: Callable[..., np.ndarray],
    masks: Callable[[_Layer], tuple[np.ndarray | bool, ...]],
) -> xr.DataArray:
    """Return a mask of decisions in which rounding of the scores could change the recorded selection."""
    return _of_layers(data, dtype, rule, lambda scores, at: give(scores, *masks(at)) & ~force(scores, *masks(at)))


def _of_layers(
    data: xr.Dataset, dtype: str, rule: RouterRule, judge: Callable[[Scores, _Layer], np.ndarray]
) -> xr.DataArray:
    """Return the result of `judge` on each layer, [token, moe_layer] bool; False if an expert is unknown.

    Layers are judged one by one, because masks of all experts in all layers need much memory.
    """
    names, near = needed_for_selection(rule), []
    require(data, names)
    measured = with_measured_groups(rule, data)
    for place in range(data.sizes["moe_layer"]):
        at = {name: data[name].isel(moe_layer=place).values for name in names}
        known = (at["expert_id"] >= 0).all(-1)
        near.append(judge(scores_of(at, dtype, measured), at) & known)
    return data["expert_id"].isel(rank=0, drop=True).copy(data=np.stack(near, -1))


def _selection(rule: RouterRule, at: _Layer) -> tuple[np.ndarray, np.ndarray | bool]:
    """Return masks of one layer's selected experts and of its experts in kept groups, [token, expert] each."""
    selected = by_expert(at["expert_id"], np.array(True), at["router_score"].shape[-1], False)
    return selected, reachable(at.get("group_kept"), rule)


def scores_of(at: Mapping[str, np.ndarray], dtype: str, rule: RouterRule) -> Scores:
    """Return the scores of one layer, from arrays without the axis `moe_layer`."""
    return Scores(biased_scores(at, rule), reach_of_scores(at, dtype, rule), rule.scores_per_group)


def with_measured_groups(rule: RouterRule, data: xr.Dataset) -> RouterRule:
    """Return the rule with the number of scores per group that the recorded group scores show.

    Args:
        rule: rule of the router.
        data: variables of a trace: those of `scores.needed`, and `group_score` if the rule has groups.
    """
    if rule.num_groups == 1:
        return rule
    count = scores_in_a_group_score(biased_scores(data, rule).values, data["group_score"].values)
    return dataclasses.replace(rule, scores_per_group=count)


def scores_in_a_group_score(biased: np.ndarray, group_score: np.ndarray) -> int:
    """Return the number of best biased scores that add up to a group's recorded score: 2 as in V3, or 1 as in V2.

    The result is the number whose sums have the smaller median error over tokens, layers and groups.

    Args:
        biased: biased scores, [..., expert].
        group_score: recorded scores of the groups, [..., group].
    """
    num_experts, num_groups = biased.shape[-1], group_score.shape[-1]
    if num_experts == num_groups:
        return 1
    best, both = (
        RouterRule(num_experts=num_experts, top_k=1, num_groups=num_groups, scores_per_group=count).group_scores(biased)
        for count in (1, 2)
    )
    from_best, from_both = (np.median(np.abs(group_score - each)) for each in (best, both))
    return 1 if from_best < from_both else 2
