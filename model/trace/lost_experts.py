"""Experts that a token lost for one reason alone: the selection bias, or the limit on groups."""

import xarray as xr

from model.trace import routing, scores
from model.trace.observed_rule import rule_known, rule_of
from model.trace.trace import Trace


def masks(trace: Trace, token: int) -> xr.Dataset:
    """Return masks [moe_layer, expert] of the experts that one token lost only to the bias, or only to the group limit.

    These experts are not selected, but would be without the bias (`to_bias`), or without the group limit (`to_groups`).
    A mask is left out if its variables were not recorded, or if the router has no bias or no group limit. The masks are
    False in layers whose selection does not follow from the scores as trained (`scores.decided_layers`).
    """
    one = trace.data.isel(token=[token])
    rule, found = rule_of(trace, one), {}
    if not rule_known(trace) or "expert_id" not in one or not all(map(trace.has, scores.needed(rule))):
        return xr.Dataset()
    if rule.has_selection_bias:
        found["to_bias"] = routing.lost_to_bias(one["router_score"], one["expert_id"], rule)
    if rule.num_groups > rule.num_kept_groups:
        found["to_groups"] = routing.lost_to_group_limit(scores.biased_scores(one, rule), one["expert_id"], rule)
    decided = scores.decided_layers(trace)
    return xr.Dataset({name: mask.isel(token=0).astype(bool) & decided for name, mask in found.items()})
