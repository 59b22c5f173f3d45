"""Decide whether rounding explains that two traces of one text selected different experts.

Rounding explains the difference if the scores of each trace, moved within their reach (`near_ties.Scores`), can give
the groups and experts of the other trace.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr

from model.trace import near_ties
from model.trace.observed_rule import rule_known, rule_of
from model.trace.router_rule import RouterRule, largest
from model.trace.routing import by_expert
from model.trace.scores import give_margins
from model.trace.trace import Trace


class Rounding(NamedTuple):
    """What decides near ties between two traces: the less precise dtype, and the router rule of each trace.

    A rule is None if the trace lacks a variable that its margins need, or if no rule is known.
    """

    dtype: str
    rule: RouterRule | None
    other_rule: RouterRule | None

    def explains(self, one: dict[str, np.ndarray], other: dict[str, np.ndarray], order: np.ndarray) -> np.ndarray:
        """Return whether rounding of each trace's scores can give the other trace's selection, [pair] bool.

        `one` and `other` are arrays of one layer; `order` has, for each expert of `one`, its number in `other`.
        """
        if one["expert_id"].shape[-1] != other["expert_id"].shape[-1]:
            return np.zeros(len(one["expert_id"]), bool)
        checks = []
        if self.rule:
            checks.append(self._gives(one, other, self.rule, order))
        if self.other_rule:
            checks.append(self._gives(other, one, self.other_rule, np.argsort(order)))
        return np.logical_and.reduce(checks) if checks else np.zeros(len(one["expert_id"]), bool)

    def _gives(
        self, own: dict[str, np.ndarray], others: dict[str, np.ndarray], rule: RouterRule, order: np.ndarray
    ) -> np.ndarray:
        """Return whether rounding of the scores in `own` can give the groups and experts of `others`, [pair] bool."""
        num_experts, num_groups = len(order), rule.num_groups
        scores = near_ties.scores_of(own, self.dtype, rule)
        selected = by_expert(others["expert_id"], np.array(True), num_experts, False)[:, order]
        if num_groups == 1:
            return scores.give_experts(selected, True)
        if "group_kept" in others:
            kept = np.repeat(others["group_kept"], num_experts // others["group_kept"].shape[-1], -1)[:, order]
        else:
            kept = np.repeat(_groups_of(selected, own), num_experts // num_groups, -1)
        by_group = kept.reshape(len(kept), num_groups, -1)
        whole = (by_group.all(-1) == by_group.any(-1)).all(-1)  # false if `order` splits a kept group
        kept_groups = np.any(by_group, axis=-1)
        same_number = kept_groups.sum(-1) == own["group_kept"].sum(-1)
        return whole & same_number & scores.give_groups(kept_groups) & scores.give_experts(selected, kept)


def _groups_of(selected: np.ndarray, own: dict[str, np.ndarray]) -> np.ndarray:
    """Return the kept groups of a selection whose groups were not recorded, [pair, group] bool.

    The groups of the selected experts count as kept. The other groups with the best scores in `own` are added until
    there are as many as the router keeps.
    """
    hit = selected.reshape(*own["group_kept"].shape, -1).any(-1)
    return largest(np.where(hit, np.inf, own["group_score"]), int(own["group_kept"].sum(-1).max(initial=1)))


def rule_for_margins(trace: Trace, at: xr.Dataset) -> RouterRule | None:
    """Return the router rule of a trace for margins of the tokens and layers `at`; None if a variable is missing."""
    rule = rule_of(trace, at)
    return rule if rule_known(trace) and give_margins(trace, at, rule) else None
