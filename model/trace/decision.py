"""One routing decision as it was computed, from logit to weight: recorded numbers, and what follows from them.

The selection is never made again. Affinities, bias, group scores, kept groups, chosen experts and weights are as
recorded; the logit, the biased score, the share before scaling, the margins and the gaps follow by arithmetic.

Source: DeepSeek-V3 report (arXiv 2412.19437), equations 12 to 16; for softmax gates DeepSeek-V2 (arXiv 2405.04434),
section 2.2.
"""

import dataclasses

import numpy as np
import xarray as xr

from model.trace import near_ties
from model.trace.observed_rule import rule_of
from model.trace.router_rule import RouterRule, biased_score
from model.trace.routing import by_expert, entry_score, one_hot, untouched_layers
from model.trace.trace import Trace

NEEDED = ("router_score", "expert_bias", "expert_id")
_MARGINS_NEED = ("group_score", "group_kept")


@dataclasses.dataclass(frozen=True, eq=False)
class Decision:
    """How one layer chose for one token.

    Attributes:
        experts: arrays [expert]. Recorded: `affinity`, `bias`, `chosen` (bool), `weight` (NaN unless chosen and
            recorded). Derived: `logit` (see `RouterRule.logit`), `biased`, `group`, `reachable` (in a kept group; true
            where groups were not recorded), `share` (the weight before scaling, NaN where that is unknown),
            `expected` (the weight by the rule from recorded affinities, likewise). Scalar coordinate `moe_layer`.
        groups: arrays [group]. Recorded: `score`, `kept`. Derived: `expected`, the score from recorded affinities and
            bias. Without variables where groups were not recorded.
        rule: the trace's router rule.
        entry: lowest biased score among the chosen.
        untouched: whether the run left this layer's selection as trained. Otherwise biased scores, expected values and
            the entry are what the trained rule makes of the recorded numbers, and no margin is said.
        place_margin: see `near_ties.place_margin`; NaN where it does not hold or is not known.
        group_margin: see `near_ties.group_margin`; likewise.
        place_near: whether the rounding of the run's dtype could have given the last place to another.
        group_near: the same for the last kept group.
        tolerance: margin below which a place is a near tie; None where no tolerance is known for the run's dtype.
    """

    experts: xr.Dataset
    groups: xr.Dataset
    rule: RouterRule
    entry: float
    untouched: bool
    place_margin: float
    group_margin: float
    place_near: bool
    group_near: bool
    tolerance: float | None

    @classmethod
    def of(cls, trace: Trace, token: int, layer: int) -> "Decision":
        """The decision of a layer, by model layer number, for a token.

        Raises:
            MissingScoresError: affinities, bias or chosen experts were not recorded.
            ValueError: no such token.
            KeyError: no such mixture layer.
        """
        near_ties.require(trace.data, NEEDED)
        if not 0 <= token < trace.num_tokens:
            raise ValueError(f"token {token} does not exist; the run has {trace.num_tokens}")
        one = trace.data.isel(token=[token]).sel(moe_layer=[layer])
        untouched = bool(untouched_layers(trace.interventions, one["moe_layer"]).item())
        rule, grouped = rule_of(trace, one), all(name in one for name in _MARGINS_NEED)
        experts = _experts(one, rule)
        dtype, measurable = str(trace.origin.get("dtype")), grouped and untouched
        known = dtype in near_ties.DTYPES
        return cls(
            experts=experts,
            groups=_groups(one, experts, rule) if grouped else xr.Dataset(),
            rule=rule,
            entry=entry_score(experts["biased"].expand_dims(["token", "moe_layer"]), one["expert_id"]).item(),
            untouched=untouched,
            place_margin=near_ties.place_margin(one).item() if measurable else np.nan,
            group_margin=near_ties.group_margin(one).item() if measurable else np.nan,
            place_near=bool(measurable and known and near_ties.near_places(one, dtype).item()),
            group_near=bool(measurable and known and near_ties.near_groups(one, dtype).item()),
            tolerance=near_ties.tolerance(dtype) if known else None,
        )

    @property
    def layer(self) -> int:
        """Model layer number."""
        return int(self.experts.coords["moe_layer"])

    @property
    def chosen(self) -> np.ndarray:
        """The chosen experts, the last to get in last, [rank]."""
        ids = np.flatnonzero(self.experts["chosen"].values)
        return ids[np.argsort(-self.experts["biased"].values[ids], kind="stable")]

    def members(self, group: int) -> np.ndarray:
        """The experts whose biased scores make a group's score, the best first, [scores per group]."""
        within = np.flatnonzero(self.experts["group"].values == group)
        return within[np.argsort(-self.experts["biased"].values[within], kind="stable")][: self.rule.scores_per_group]

    @property
    def mean_bias(self) -> float:
        """Mean of the layer's biases: an offset that all experts share moves no selection."""
        return float(self.experts["bias"].values.mean())

    @property
    def affinity_sum(self) -> float:
        """Sum of the chosen experts' affinities, by which a normalising router divides them."""
        return float(self.experts["affinity"].values[self.chosen].astype(np.float64).sum())

    @property
    def weight_gap(self) -> float:
        """Largest difference between a recorded weight and the one by the rule, in shares of the largest; or NaN."""
        weight, expected = self.experts["weight"].values, self.experts["expected"].values
        known = np.isfinite(weight) & np.isfinite(expected)
        return float((np.abs(weight - expected)[known] / np.abs(weight[known]).max()).max()) if known.any() else np.nan

    @property
    def group_gap(self) -> float:
        """Largest difference between a recorded group score and the one by the rule; NaN where that is not known."""
        return float(np.abs(self.groups["score"] - self.groups["expected"]).max()) if self.groups else np.nan


def _experts(one: xr.Dataset, rule: RouterRule) -> xr.Dataset:
    scores, num_experts = one["router_score"], one.sizes["expert"]
    affinity, chosen = scores.values[0, 0], one_hot(one["expert_id"], num_experts)[0, 0]
    size = num_experts // one.sizes.get("group", 1)
    weight, expected = np.full(num_experts, np.nan), np.full(num_experts, np.nan)
    if "gate_weight" in one:
        recorded = one["gate_weight"].values[0, 0].astype(np.float64)
        weight = by_expert(one["expert_id"].values[0, 0], recorded, num_experts, np.nan)
    expected[chosen] = rule.weights(affinity[chosen].astype(np.float64))
    arrays = {
        "logit": rule.logit(affinity),
        "affinity": affinity,
        "bias": one["expert_bias"].values[0],
        "biased": biased_score(scores, one["expert_bias"]).transpose("token", "moe_layer", "expert").values[0, 0],
        "group": np.arange(num_experts) // size,
        "reachable": np.repeat(one["group_kept"].values[0, 0], size) if "group_kept" in one else chosen | True,
        "chosen": chosen,
        "share": weight / rule.routed_scale if rule.routed_scale else np.full(num_experts, np.nan),
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
