"""Routing of a trace as the Routing page shows it: arrays for its figures, and tables.

What one expert took is in `expert_tokens.py`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from model.trace import chance, routing
from model.trace.imports import origin as imported
from model.trace.observed_rule import rule_of
from model.trace.router_rule import RouterRule
from model.trace.trace import Trace
from pages.common import text
from viz.routing import LOST_TO_BIAS, LOST_TO_GROUP

LOST_TO_EITHER = "lost to the bias alone, or to the group limit alone"


# --- the trace -------------------------------------------------------------------------------------------------------


def by_chance(trace: Trace, mask: xr.DataArray) -> str:
    """How many experts fair routing alone would leave without a token, as a sentence; empty when that is not known."""
    rule = rule_of(trace)
    band = chance.band_of(rule, int(mask.sum()))
    if band is None:
        return ""
    number = rule.num_experts
    return f" Fair routing of so many would leave about {band.dead:.2g} of {number} experts without one (simulated)."


def origin(trace: Trace) -> str:
    """Tag of what the router did: observed, or worked out from an imported file."""
    return "derived" if "expert_id" in imported.derived(trace) else imported.kind(trace)


def strongest(trace: Trace, token: int, layer: int) -> int:
    """The expert that counts most for a token in a layer; 0 where the trace does not know."""
    return max(0, int(trace.data["expert_id"].sel(moe_layer=layer).values[token, 0]))


def at_token(trace: Trace, token: int) -> xr.Dataset:
    """Routing variables of one token, as far as recorded."""
    names = ["expert_id", "gate_weight", "router_score", "group_score", "group_kept", "expert_bias"]
    return trace.data[[name for name in names if trace.has(name)]].isel(token=token)


def losers(trace: Trace, token: int) -> dict[str, xr.DataArray]:
    """Who lost only to the bias or to the group limit, masks [moe_layer, expert].

    Only what the recorded variables allow, and only in layers where the run chose as the model was trained to.
    """
    if not (trace.has("router_score") and trace.has("expert_bias")):
        return {}
    one = trace.data.isel(token=[token])
    rule = rule_of(trace, one)
    masks = {LOST_TO_BIAS: routing.lost_to_bias(one["router_score"], one["expert_id"], rule)}
    if rule.num_groups > rule.num_kept_groups:
        limited = routing.lost_to_group_limit(one["router_score"], one["expert_bias"], one["expert_id"], rule)
        masks[LOST_TO_GROUP] = limited
    untouched = routing.untouched_layers(trace.interventions, one["moe_layer"])
    return {name: mask.isel(token=0).astype(bool) & untouched for name, mask in masks.items()}


def edits(trace: Trace) -> list[str]:
    """The run's interventions in words of Markdown, for they stand in the file as its writer pleased."""
    return [text.plain(_edit(change), 120) for change in trace.interventions]


def _edit(change: Mapping[str, Any]) -> str:
    layer, where = change.get("layer"), "" if change.get("layer") is None else f" in L{change['layer']}"
    said = {
        "KnockOut": f"L{layer}E{change.get('expert')} knocked out",
        "ForceExpert": f"L{layer}E{change.get('expert')} forced",
        "TopK": f"{change.get('k')} experts per token",
        "BiasOff": f"bias off{where}",
        "GroupLimitOff": f"group limit off{where}",
        "GateTemperature": f"gate temperature {change.get('temperature')}{where}",
        "ScoreThreshold": f"no weight below affinity {change.get('threshold')}{where}",
        "Replay": f"routing of the first {change.get('num_tokens')} tokens replayed",
    }
    return said.get(str(change.get("kind")), "an unknown change")


# --- the path --------------------------------------------------------------------------------------------------------


def verdicts(chosen: np.ndarray, lost: Mapping[str, xr.DataArray]) -> np.ndarray:
    """What became of every entry of [..., expert], in words."""
    said = np.where(chosen, "chosen", "not chosen").astype(object)
    for name, mask in lost.items():
        said[mask.values] = np.where(said[mask.values] == "not chosen", name, LOST_TO_EITHER)
    return said


def path(trace: Trace, token: int, lost: dict[str, xr.DataArray]) -> pd.DataFrame:
    """The experts that a token took in every layer, and those that lost to one thing only."""
    at, rule = at_token(trace, token), rule_of(trace)
    chosen = routing.one_hot(trace.data["expert_id"].isel(token=[token]), rule.num_experts)[0]
    became = verdicts(chosen, lost)
    row, expert = np.nonzero(became != "not chosen")
    weights = np.full(chosen.shape, np.nan)
    if "gate_weight" in at:
        weights = routing.by_expert(at["expert_id"].values, at["gate_weight"].values, rule.num_experts, np.nan)
    table = pd.DataFrame({"layer": at["moe_layer"].values[row], "expert": expert, "group": expert // rule.group_size})
    if "router_score" in at:
        table["affinity"] = at["router_score"].values[row, expert]
    table["weight"], table["verdict"] = weights[row, expert], became[row, expert]
    return table.sort_values(["layer", "weight"], ascending=[True, False], kind="stable")


# --- which experts work together -------------------------------------------------------------------------------------


def pairs(counts: xr.DataArray, rule: RouterRule) -> pd.DataFrame:
    """Pairs of experts that had tokens in common, the commonest first; a row per ordered pair."""
    values = counts.values
    expert, other = np.nonzero(values * ~np.eye(len(values), dtype=bool))
    together, own = values[expert, other], np.diagonal(values)[expert]
    same, apart = routing.fair_coactivation(rule)
    size, (low, high) = rule.group_size, routing.share_intervals(together, own)
    table = pd.DataFrame(
        {
            "expert": expert,
            "also went to": other,
            "tokens": together,
            "of": own,
            "share": together / own,
            "low (95 %)": low,
            "high (95 %)": high,
            "fair share": np.where(expert // size == other // size, same, apart),
        }
    )
    return table.sort_values(["tokens", "share"], ascending=False, kind="stable")


def steps(counts: xr.DataArray, fewest: int = 1) -> pd.DataFrame:
    """Steps that so many tokens took or more, the commonest first; [expert, next_expert], with or without layers."""
    wide = counts if "moe_layer" in counts.dims else counts.expand_dims("moe_layer")
    row, expert, following = np.nonzero(wide.values >= fewest)
    table = pd.DataFrame(
        {
            "layer": np.atleast_1d(wide["moe_layer"].values)[row],
            "expert": expert,
            "next layer": np.atleast_1d(wide["next_layer"].values)[row],
            "next expert": following,
            "tokens": wide.values[row, expert, following],
        }
    )
    return table.sort_values("tokens", ascending=False, kind="stable")
