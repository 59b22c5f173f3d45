"""The experts of a token in every layer: arrays for the figure, and a table."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from model.trace import lost_experts, routing
from model.trace.observed_rule import rule_of
from model.trace.trace import Trace
from viz.routing import LOST_TO_BIAS, LOST_TO_GROUP

NAMES = {"to_bias": LOST_TO_BIAS, "to_groups": LOST_TO_GROUP}
LOST_TO_EITHER = "lost to the bias alone, or to the group limit alone"


def at_token(trace: Trace, token: int) -> xr.Dataset:
    """Return the recorded routing variables of one token."""
    names = ["expert_id", "gate_weight", "router_logit", "router_score", "group_score", "group_kept", "expert_bias"]
    return trace.data[[name for name in names if trace.has(name)]].isel(token=token)


def losers(trace: Trace, token: int) -> dict[str, xr.DataArray]:
    """Return the masks [moe_layer, expert] of `lost_experts.masks` by the names of `viz.routing.SYMBOLS`."""
    return {NAMES[str(name)]: mask for name, mask in lost_experts.masks(trace, token).data_vars.items()}


def verdicts(chosen: np.ndarray, lost: Mapping[str, xr.DataArray]) -> np.ndarray:
    """Return a word for every entry of `chosen` [..., expert]: chosen, not chosen, or to what the expert lost."""
    words = np.where(chosen, "chosen", "not chosen").astype(object)
    for name, mask in lost.items():
        words[mask.values] = np.where(words[mask.values] == "not chosen", name, LOST_TO_EITHER)
    return words


def table(trace: Trace, token: int, lost: dict[str, xr.DataArray]) -> pd.DataFrame:
    """Return a table with a row per layer and expert that was selected or is in a mask of `lost` (see `losers`)."""
    at, rule = at_token(trace, token), rule_of(trace)
    chosen = routing.one_hot(trace.data["expert_id"].isel(token=[token]), rule.num_experts)[0]
    became = verdicts(chosen, lost)
    row, expert = np.nonzero(became != "not chosen")
    weights = np.full(chosen.shape, np.nan)
    if "gate_weight" in at:
        weights = routing.by_expert(at["expert_id"].values, at["gate_weight"].values, rule.num_experts, np.nan)
    groups = [rule.group_of(number) for number in expert.tolist()]
    rows = pd.DataFrame({"layer": at["moe_layer"].values[row], "expert": expert, "group": groups})
    if "router_score" in at:
        rows["affinity"] = at["router_score"].values[row, expert]
    elif "router_logit" in at:
        rows["router output"] = at["router_logit"].values[row, expert]
    rows["weight"], rows["verdict"] = weights[row, expert], became[row, expert]
    return rows.sort_values(["layer", "weight"], ascending=[True, False], kind="stable")
