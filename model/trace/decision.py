"""One routing decision, from logit to weight: recorded numbers, and numbers derived from them.

Affinities, bias, group scores, kept groups, selected experts and weights are recorded; the selection is not repeated
here. Logit, biased score, weight before scaling, margins and gaps are derived.

Source: DeepSeek-V3 report (arXiv 2412.19437), equations 12 to 16; for softmax routers DeepSeek-V2 (arXiv 2405.04434),
section 2.2.
"""

import dataclasses

import numpy as np
import xarray as xr

from model.trace import near_ties
from model.trace.observed_rule import rule_known, rule_of
from model.trace.router_rule import RouterRule
from model.trace.routing import by_expert, entry_score, one_hot, untouched_layers
from model.trace.scores import (
    MissingScoresError,
    biased_scores,
    decided_layers,
    give_margins,
    needed,
    require,
)
from model.trace.trace import Trace

_GROUPS_NEED = ("group_score", "group_kept")


@dataclasses.dataclass(frozen=True, eq=False)
class Decision:
    """The decision of one layer for one token.

    Attributes:
        experts: variables [expert]. Recorded: `affinity`, `bias` (0 in a router without one), `factor` of the expert (1
            in a router without factors), `chosen` (bool), `weight` (NaN unless chosen and recorded), `logit` (derived
            if it was not recorded, see `RouterRule.logit`). Derived: `biased` score, `group`, `reachable` (in a kept
            group; true if groups were not recorded), `share` (the weight before all factors) and `expected` (the
            weight by the rule from the recorded affinities; NaN for a choice that computes nothing); `share` and
            `expected` are NaN if the rule is unknown.
            Scalar coordinate `moe_layer`.
        groups: variables [group]. Recorded: `score`, `kept`. Derived: `expected`, the score from recorded affinities
            and bias. No variables if groups were not recorded.
        rule: router rule of the trace.
        idle_from: first column of the router that computes nothing; None if all compute.
        logit_kind: what the router returned, "logit" or "probability"; None if that was not recorded.
        by_table: whether the experts follow from the token id alone. Then no score decides, entry and margins are NaN,
            and there are no near ties; the weights still follow from the affinities.
        entry: lowest biased score among the selected experts.
        untouched: whether no intervention changed this layer's selection. If one did, biased scores, expected values
            and entry follow the trained rule, and the margins are NaN.
        place_margin: see `near_ties.place_margin`; NaN if unknown.
        group_margin: see `near_ties.group_margin`; NaN if unknown.
        place_near: whether rounding in the run's dtype could replace the last selected expert.
        group_near: whether rounding in the run's dtype could replace the last kept group.
        follows_scores: whether the recorded scores, up to rounding to bfloat16, give the recorded experts and groups;
            true if unknown.
        tolerance: how far rounding may move a logit, as a share of the logits' standard deviation; None if it was not
            measured for the run's dtype.
    """

    experts: xr.Dataset
    groups: xr.Dataset
    rule: RouterRule
    idle_from: int | None
    logit_kind: str | None
    by_table: bool
    entry: float
    untouched: bool
    place_margin: float
    group_margin: float
    place_near: bool
    group_near: bool
    follows_scores: bool
    tolerance: float | None

    @classmethod
    def of(cls, trace: Trace, token: int, layer: int) -> "Decision":
        """Return the decision for a token in a layer, given by its model layer number.

        Raises:
            MissingScoresError: affinities, bias or selected experts were not recorded, or no rule is known.
            ValueError: the run has no such token.
            KeyError: the model has no such MoE layer.
        """
        if not rule_known(trace):
            raise MissingScoresError("the rule by which this router selects experts is not known")
        require(trace.data, needed_for_decision(trace))
        if not 0 <= token < trace.num_tokens:
            raise ValueError(f"token {token} does not exist; the run has {trace.num_tokens}")
        one = trace.data.isel(token=[token]).sel(moe_layer=[layer])
        rule, by_table = rule_of(trace, one), bool(trace.router and layer in trace.router.table_layers)
        experts, grouped = _experts(one, rule, trace.shape.idle_from), all(name in one for name in _GROUPS_NEED)
        decided = bool(decided_layers(trace).sel(moe_layer=layer)) and give_margins(trace, one, rule)
        dtype, known_experts = str(trace.origin.get("dtype")), bool((one["expert_id"] >= 0).all())
        known, entry = dtype in near_ties.DTYPES, np.nan
        if not by_table:
            entry = entry_score(experts["biased"].expand_dims(["token", "moe_layer"]), one["expert_id"]).item()
        return cls(
            experts=experts,
            groups=_groups(one, experts, rule) if grouped else xr.Dataset(),
            rule=rule,
            idle_from=trace.shape.idle_from,
            logit_kind=trace.router.logit_kind if trace.router and "router_logit" in one else None,
            by_table=by_table,
            entry=entry,
            untouched=bool(untouched_layers(trace.interventions, one["moe_layer"]).item()),
            place_margin=near_ties.place_margin(one, rule).item() if decided else np.nan,
            group_margin=near_ties.group_margin(one, rule).item() if decided else np.nan,
            place_near=bool(decided and known and near_ties.near_places(one, dtype, rule).item()),
            group_near=bool(decided and known and near_ties.near_groups(one, dtype, rule).item()),
            follows_scores=not decided or not known_experts or near_ties.follow(one, "bfloat16", rule).item(),
            tolerance=near_ties.tolerance(dtype) if known else None,
        )

    @property
    def layer(self) -> int:
        """The model layer number."""
        return int(self.experts.coords["moe_layer"])

    @property
    def chosen(self) -> np.ndarray:
        """The selected experts by descending biased score, [rank]."""
        ids = np.flatnonzero(self.experts["chosen"].values)
        return ids[np.argsort(-self.experts["biased"].values[ids], kind="stable")]

    def members(self, group: int) -> np.ndarray:
        """Return the experts whose biased scores make up a group's score, the best first, [scores per group]."""
        within = np.flatnonzero(self.experts["group"].values == group)
        return within[np.argsort(-self.experts["biased"].values[within], kind="stable")][: self.rule.scores_per_group]

    @property
    def mean_bias(self) -> float:
        """The mean of the layer's biases. Adding the same number to all biases changes no selection."""
        return float(self.experts["bias"].values.mean())

    @property
    def affinity_sum(self) -> float:
        """The sum of the selected experts' affinities; a router with normalised weights divides by this sum."""
        return float(self.experts["affinity"].values[self.chosen].astype(np.float64).sum())

    @property
    def weight_gap(self) -> float:
        """The largest difference of recorded and expected weights, divided by the largest weight; NaN if unknown."""
        weight, expected = self.experts["weight"].values, self.experts["expected"].values
        known = np.isfinite(weight) & np.isfinite(expected)
        if not known.any():
            return np.nan
        with np.errstate(divide="ignore", invalid="ignore"):
            return float((np.abs(weight - expected)[known] / np.abs(weight[known]).max()).max())

    @property
    def group_gap(self) -> float:
        """The largest difference of recorded and expected group scores; NaN if unknown."""
        return float(np.abs(self.groups["score"] - self.groups["expected"]).max()) if self.groups else np.nan


def needed_for_decision(trace: Trace) -> tuple[str, ...]:
    """Return the variables without which there is no `Decision`."""
    return (*needed(rule_of(trace)), "expert_id")


def _experts(one: xr.Dataset, rule: RouterRule, idle_from: int | None) -> xr.Dataset:
    num_experts, zeros = one.sizes["expert"], np.zeros(one.sizes["expert"], np.float32)
    affinity, chosen = one["router_score"].values[0, 0], one_hot(one["expert_id"], num_experts)[0, 0]
    size = num_experts // one.sizes.get("group", 1)
    weight, expected = np.full(num_experts, np.nan), np.full(num_experts, np.nan)
    factor = one["expert_factor"].values[0].astype(np.float64) if "expert_factor" in one else np.ones(num_experts)
    if "gate_weight" in one:
        recorded = one["gate_weight"].values[0, 0].astype(np.float64)
        weight = by_expert(one["expert_id"].values[0, 0], recorded, num_experts, np.nan)
    recorded_factor = factor[chosen] if "expert_factor" in one else None
    expected[chosen] = rule.weights(affinity[chosen].astype(np.float64), recorded_factor)
    expected[slice(num_experts if idle_from is None else idle_from, None)] = np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        share = weight / (factor * rule.routed_scale) if rule.routed_scale else np.full(num_experts, np.nan)
    arrays = {
        "logit": one["router_logit"].values[0, 0] if "router_logit" in one else rule.logit(affinity),
        "affinity": affinity,
        "bias": one["expert_bias"].values[0] if "expert_bias" in one else zeros,
        "factor": factor,
        "biased": biased_scores(one, rule).values[0, 0],
        "group": np.arange(num_experts) // size,
        "reachable": np.repeat(one["group_kept"].values[0, 0], size) if "group_kept" in one else chosen | True,
        "chosen": chosen,
        "share": share,
        "weight": weight,
        "expected": expected,
    }
    coords = {"moe_layer": int(one["moe_layer"][0])}
    return xr.Dataset({name: ("expert", values) for name, values in arrays.items()}, coords=coords)


def _groups(one: xr.Dataset, experts: xr.Dataset, rule: RouterRule) -> xr.Dataset:
    arrays = {
        "score": one["group_score"].values[0, 0],
        "kept": one["group_kept"].values[0, 0],
        "expected": rule.group_scores(experts["biased"].values),
    }
    return xr.Dataset({name: ("group", values) for name, values in arrays.items()})
