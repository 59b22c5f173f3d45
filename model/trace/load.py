"""The load of the experts of a run: how many of the counted tokens selected each expert.

Shares have Wilson's 95 % interval, as if the tokens were independent of each other. `chance.py` computes the bounds of
a fair router, which selects random experts.
"""

import dataclasses
import functools

import numpy as np
import xarray as xr

from model.trace import chance, metrics, routing
from model.trace.derived import derived
from model.trace.observed_rule import rule_of
from model.trace.router_rule import RouterRule
from model.trace.trace import Trace


@dataclasses.dataclass(frozen=True, eq=False)
class Load:
    """The number of tokens of each expert, and the measures that are computed from it.

    Attributes:
        counts: number of tokens of each expert, [moe_layer, expert].
        num_tokens: number of tokens that were counted.
        num_unknown: number of tokens that were not counted because their experts are unknown.
        rule: rule of the router.
        kept: number of tokens that kept each group, [moe_layer, group]; None if kept groups were not recorded.
        band: bounds of a fair router for this number of tokens; None if the trace does not state how its model routes.
        idle_from: first column of the router that computes nothing; None if all compute. These columns count like
            experts, because a token chooses them like experts.
    """

    counts: xr.DataArray
    num_tokens: int
    num_unknown: int
    rule: RouterRule
    kept: xr.DataArray | None
    band: chance.LoadBand | None
    idle_from: int | None = None

    @property
    def computing(self) -> xr.DataArray:
        """The number of tokens of each expert that computes something, [moe_layer, expert]."""
        return self.counts.isel(expert=slice(0, self.idle_from))

    @property
    def idle_share(self) -> float:
        """The share of all choices that compute nothing; NaN without tokens."""
        total = int(self.counts.sum())
        return 1 - int(self.computing.sum()) / total if total else float("nan")

    @functools.cached_property
    def ratio(self) -> xr.DataArray:
        """The load of experts divided by a fair share, [moe_layer, expert]."""
        return metrics.relative_load(self.counts)

    @functools.cached_property
    def group_ratio(self) -> xr.DataArray:
        """The load of groups divided by a fair share, [moe_layer, group]."""
        groups = metrics.tokens_per_group(self.counts, self.rule.num_groups)
        return groups / groups.mean("group")

    @functools.cached_property
    def violation(self) -> xr.DataArray:
        """The MaxVio of each layer, [moe_layer]."""
        return metrics.max_violation(self.counts)

    @functools.cached_property
    def least_even(self) -> list[int]:
        """The model layer numbers, the layer with the largest MaxVio first."""
        order = np.argsort(-self.violation.values, kind="stable")
        return self.violation["moe_layer"].values[order].tolist()

    @functools.cached_property
    def outside(self) -> xr.DataArray:
        """Mask of experts with a load outside a fair router's bounds, [moe_layer, expert]; all False without a band."""
        ratio = self.ratio
        return xr.zeros_like(ratio, bool) if self.band is None else (ratio < self.band.low) | (ratio > self.band.high)

    @property
    def num_outside(self) -> int:
        """The number of experts with a load outside a fair router's bounds, over all layers."""
        return int(self.outside.sum())

    @property
    def num_uneven(self) -> int:
        """The number of layers with a MaxVio above a fair router's bound; 0 without a band."""
        return 0 if self.band is None else int((self.violation > self.band.max_violation).sum())

    @property
    def fewest(self) -> int:
        """The smallest number of tokens for which a fair router rarely leaves any expert idle."""
        return chance.tokens_to_call_dead(self.rule.num_experts, self.rule.top_k)


def measure(trace: Trace, mask: xr.DataArray | None = None) -> Load:
    """Return the load of the experts over the tokens in a mask [token]; without a mask, over all tokens.

    Raises:
        ValueError: the trace does not state the number of experts, or has the id of an expert that does not exist.
    """
    return derived(trace, ("load", None if mask is None else mask.values.tobytes()), lambda: _measure(trace, mask))


def _measure(trace: Trace, mask: xr.DataArray | None) -> Load:
    expert_id, rule = trace.data["expert_id"], rule_of(trace)
    known = metrics.has_experts(expert_id)
    counted = known if mask is None else mask & known
    num_tokens = int(counted.sum())
    kept = None
    if trace.has("group_kept") and num_tokens:
        kept = trace.data["group_kept"].isel(token=np.flatnonzero(counted)).sum("token")
    return Load(
        counts=metrics.tokens_per_expert(expert_id, rule.num_experts, counted),
        num_tokens=num_tokens,
        num_unknown=int((~known if mask is None else mask & ~known).sum()),
        rule=rule,
        kept=kept,
        band=chance.band_of(rule, num_tokens),
        idle_from=trace.shape.idle_from,
    )


def band(trace: Trace) -> chance.LoadBand | None:
    """Return the bounds of a fair router for all tokens of a run; None if experts or layout are unknown."""
    return measure(trace).band if trace.has("expert_id") else None


def by_layer(load: Load) -> xr.Dataset:
    """Return the measures of balance of every layer.

    Returns:
        Variables [moe_layer]: `max_violation`, `variation`, `entropy` and `gini` as in `metrics`; numbers of experts
        that are `dead` (of those that compute), `hot`, or `outside` the bounds; the `busiest` expert, its number of
        tokens (`most`) and its load ratio (`largest_ratio`).
    """
    counts = load.counts
    return xr.Dataset(
        {
            "max_violation": load.violation,
            "variation": metrics.coefficient_of_variation(counts),
            "entropy": metrics.normalised_entropy(counts),
            "gini": metrics.gini(counts),
            "dead": metrics.dead_experts(load.computing).sum("expert"),
            "hot": metrics.hot_experts(counts).sum("expert"),
            "outside": load.outside.sum("expert"),
            "busiest": counts.argmax("expert"),
            "most": counts.max("expert"),
            "largest_ratio": load.ratio.max("expert"),
        }
    )


def by_expert(load: Load, layer: int) -> xr.Dataset:
    """Return the load of each expert of one layer.

    Returns:
        Variables [expert]: `tokens`, `share` of the tokens with its interval `low` to `high`, `ratio` to a fair share.
    """
    taken = load.counts.sel(moe_layer=layer, drop=True)
    low, high = routing.share_intervals(taken.values, load.num_tokens)
    return xr.Dataset(
        {
            "tokens": taken,
            "share": taken / load.num_tokens,
            "low": ("expert", low),
            "high": ("expert", high),
            "ratio": load.ratio.sel(moe_layer=layer, drop=True),
        }
    )


def by_group(load: Load) -> xr.Dataset:
    """Return the load of each group of every layer.

    Returns:
        Variables [moe_layer, group]: `slots` (selections) of a group's experts, `ratio` to a fair share; if recorded,
        `kept` (tokens that kept the group) and their `share` with the interval `low` to `high`.
    """
    groups = xr.Dataset(
        {"slots": metrics.tokens_per_group(load.counts, load.rule.num_groups), "ratio": load.group_ratio}
    )
    if load.kept is None:
        return groups
    low, high = (load.kept.copy(data=bound) for bound in routing.share_intervals(load.kept.values, load.num_tokens))
    return groups.assign(kept=load.kept, share=load.kept / load.num_tokens, low=low, high=high)
