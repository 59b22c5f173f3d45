"""How the experts of a run shared the tokens that count, in numbers and tables."""

import dataclasses

import numpy as np
import pandas as pd
import xarray as xr

from model.trace import chance, metrics, routing
from model.trace.observed_rule import rule_of
from model.trace.router_rule import RouterRule
from model.trace.trace import Trace
from viz.load import verdicts


@dataclasses.dataclass(frozen=True)
class Load:
    """Tokens per expert.

    Attributes:
        counts: [moe_layer, expert].
        num_tokens: tokens counted, and `num_unknown` those that were to count but whose experts are not known.
        rule: the router's.
        kept: tokens that kept a group, [moe_layer, group]; None where that was not recorded.
        band: what chance alone gives for so many tokens; None when the trace does not say how its model routes.
    """

    counts: xr.DataArray
    num_tokens: int
    num_unknown: int
    rule: RouterRule
    kept: xr.DataArray | None
    band: chance.LoadBand | None

    @property
    def ratio(self) -> xr.DataArray:
        """Load over a fair share, [moe_layer, expert]."""
        return metrics.relative_load(self.counts)

    @property
    def group_ratio(self) -> xr.DataArray:
        """Load of groups over a fair share, [moe_layer, group]."""
        groups = metrics.tokens_per_group(self.counts, self.rule.num_groups)
        return groups / groups.mean("group")

    @property
    def fewest(self) -> int:
        """Tokens from which on an expert without one is beyond chance."""
        return chance.tokens_to_call_dead(self.rule.num_experts, self.rule.top_k)


def measure(trace: Trace, mask: xr.DataArray | None = None) -> Load:
    """Count the tokens of a [token] mask; all of them without one.

    Raises:
        ValueError: the trace does not say how many experts its model has, or names others.
    """
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
    )


def band(trace: Trace) -> chance.LoadBand | None:
    """What chance alone gives for all tokens of a run; None where its routing is not known."""
    return measure(trace).band if trace.has("expert_id") else None


# --- tables ----------------------------------------------------------------------------------------------------------


def by_layer(load: Load) -> pd.DataFrame:
    """One row per layer: how evenly it shared the tokens."""
    counts = load.counts
    layers = counts["moe_layer"].values
    table = {
        "layer": [f"L{layer}" for layer in layers],
        "tokens": load.num_tokens,
        "MaxVio": metrics.max_violation(counts).values,
        "CV": metrics.coefficient_of_variation(counts).values,
        "entropy": metrics.normalised_entropy(counts).values,
        "Gini": metrics.gini(counts).values,
        "dead": metrics.dead_experts(counts).sum("expert").values,
        "hot": metrics.hot_experts(counts).sum("expert").values,
        "busiest": [f"L{layer}E{expert}" for layer, expert in zip(layers, counts.argmax("expert").values, strict=True)],
    }
    if load.band is not None:
        table["beyond chance"] = outside(load).sum("expert").values
    return pd.DataFrame(table)


def with_bounds(load: Load) -> pd.DataFrame:
    """`by_layer` below a row of what fair routing of so many tokens keeps to in 95 % of cases, when that is known."""
    table, band = by_layer(load), load.band
    if band is None:
        return table
    bounds = {"layer": "chance", "tokens": load.num_tokens, "MaxVio": band.max_violation, "CV": band.variation}
    bounds |= {"entropy": band.entropy, "Gini": band.gini, "dead": band.num_dead, "beyond chance": band.num_outside}
    return pd.concat([pd.DataFrame([bounds], columns=table.columns), table], ignore_index=True)


def by_expert(load: Load, layer: int) -> pd.DataFrame:
    """One row per expert of a layer, the share of tokens with its interval."""
    took, ratio = load.counts.sel(moe_layer=layer).values, load.ratio.sel(moe_layer=layer).values
    low, high = routing.share_intervals(took, load.num_tokens)
    experts = np.arange(load.rule.num_experts)
    table = {
        "expert": [f"L{layer}E{expert}" for expert in experts],
        "group": experts // load.rule.group_size,
        "tokens": took,
        "share of tokens": took / load.num_tokens,
        "low (95 %)": low,
        "high (95 %)": high,
        "× uniform": ratio,
    }
    if load.band is not None:
        table["against chance"] = verdicts(ratio, load.band)
    return pd.DataFrame(table)


def everything(load: Load) -> pd.DataFrame:
    """One row per layer and expert."""
    layers, experts = load.counts["moe_layer"].values, np.arange(load.rule.num_experts)
    ratio = load.ratio.values.ravel()
    table = {
        "layer": np.repeat(layers, len(experts)),
        "expert": np.tile(experts, len(layers)),
        "tokens": load.counts.values.ravel(),
        "× uniform": ratio,
    }
    if load.band is not None:
        table["against chance"] = verdicts(ratio, load.band)
    return pd.DataFrame(table)


def by_group(load: Load) -> pd.DataFrame:
    """One row per layer and group."""
    ratio = load.group_ratio
    layers, groups = ratio["moe_layer"].values, np.arange(load.rule.num_groups)
    slots = metrics.tokens_per_group(load.counts, load.rule.num_groups).values
    table = {
        "layer": np.repeat(layers, len(groups)),
        "group": np.tile(groups, len(layers)),
        "choices of its experts": slots.ravel(),
        "× uniform": ratio.values.ravel(),
    }
    if load.kept is not None:
        kept = load.kept.values.ravel()
        low, high = routing.share_intervals(kept, load.num_tokens)
        table |= {"tokens that kept it": kept, "share": kept / load.num_tokens, "low (95 %)": low, "high (95 %)": high}
    return pd.DataFrame(table)


def outside(load: Load) -> xr.DataArray:
    """Experts whose load chance alone does not explain, bool [moe_layer, expert]; none without a band."""
    ratio = load.ratio
    return xr.zeros_like(ratio, bool) if load.band is None else (ratio < load.band.low) | (ratio > load.band.high)
