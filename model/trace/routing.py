"""Co-activation of experts, transitions between layers, and experts that the bias or the group limit excluded.

Only `lost_to_bias` and `lost_to_group_limit` select again, by the router rule on recorded scores; all other functions
count recorded selections. These two and the margins of `near_ties.py` describe the model as trained, so they hold only
in the layers of `scores.decided_layers`. In other layers an intervention contradicts them: a knocked-out expert is not
selected, whatever its score, and a recorded bias has no effect if an intervention switches the bias off.

Source: co-activation from OLMoE (arXiv 2409.02060), here over all pairs; OLMoE's script counts neighbouring ranks only.
"""

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from model.trace.metrics import per_layer, require_experts
from model.trace.router_rule import RouterRule


def one_hot(expert_id: xr.DataArray, num_experts: int) -> np.ndarray:
    """Return a mask of selected experts, bool [token, moe_layer, expert]; unknown slots (-1) select none."""
    require_experts(expert_id, num_experts)
    ids = expert_id.transpose("token", "moe_layer", "rank").values
    return by_expert(ids, np.array(True), num_experts, False)


def by_expert(ids: np.ndarray, values: np.ndarray, num_experts: int, filler: float) -> np.ndarray:
    """Return values by expert, [..., expert], from values by rank; unknown slots (-1) are dropped.

    Args:
        ids: selected experts, [..., rank].
        values: values of the selected experts, [..., rank], or one value for all.
        num_experts: number of routed experts of the model.
        filler: value of experts that were not selected.
    """
    spread = np.full((*ids.shape[:-1], num_experts + 1), filler, values.dtype)
    np.put_along_axis(spread, ids.astype(np.int64), values, axis=-1)  # -1 writes to the spare last column
    return spread[..., :num_experts]


def in_router_order(data: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return expert ids and gate weights in the router's own order of ranks, [..., rank] each.

    A trace without `rank_order` keeps its order. Kernels sum the experts' outputs in the router's order, so a replay is
    exact only in this order.

    Args:
        data: variables `expert_id`, `gate_weight` and, if recorded, `rank_order` of a trace.
    """
    ids, weights = (data[name].values for name in ("expert_id", "gate_weight"))
    if "rank_order" not in data:
        return ids, weights
    places = np.argsort(data["rank_order"].values, axis=-1)
    return np.take_along_axis(ids, places, -1), np.take_along_axis(weights, places, -1)


def shared_tokens(expert_id: xr.DataArray, num_experts: int) -> xr.DataArray:
    """Return the number of tokens that selected both experts, [moe_layer, expert, other_expert].

    The diagonal has the tokens of each expert. All pairs of a token's experts count.
    """
    # Products of float32 count exactly up to 2^24 tokens.
    hot = np.moveaxis(one_hot(expert_id, num_experts), 1, 0).astype(np.float32)
    return per_layer(expert_id, (hot.swapaxes(1, 2) @ hot).astype(np.int32), "expert", "other_expert")


def fair_coactivation(rule: RouterRule) -> tuple[float, float]:
    """Return the share of one expert's tokens that a fair router also sends to another given expert.

    The first value is for two experts of one group, the second for two experts of different groups. A fair router keeps
    random groups, then selects random experts within them.
    """
    reachable = rule.group_size * rule.num_kept_groups
    same = (rule.top_k - 1) / max(reachable - 1, 1)
    return same, same * (rule.num_kept_groups - 1) / (rule.num_groups - 1) if rule.num_groups > 1 else same


def pair_shares(counts: xr.DataArray, rule: RouterRule) -> xr.Dataset:
    """Return the pairs of one layer's experts that have common tokens.

    Args:
        counts: tokens that selected both experts, [expert, other_expert], from `shared_tokens`.
        rule: rule of the router.

    Returns:
        Variables [pair], each ordered pair once: `expert`, `other`, common `tokens`, `total` tokens of `expert`,
        their `share` (tokens / total) with its interval `low` to `high`, and `fair`, the share by a fair router.
    """
    values, own = counts.values, np.diagonal(counts.values)
    expert, other = np.nonzero(values * ~np.eye(len(values), dtype=bool))
    tokens, total = values[expert, other], own[expert]
    low, high = share_intervals(tokens, total)
    same, apart = fair_coactivation(rule)
    fair = np.where(expert // rule.group_size == other // rule.group_size, same, apart)
    columns = {"expert": expert, "other": other, "tokens": tokens, "total": total, "share": tokens / total}
    columns |= {"low": low, "high": high, "fair": fair}
    return xr.Dataset({name: ("pair", column) for name, column in columns.items()})


def transitions(expert_id: xr.DataArray, num_experts: int) -> xr.DataArray:
    """Return the number of transitions from a MoE layer to the next, [moe_layer, expert, next_expert].

    All k x k pairs of a token's experts count, so the matrix of a layer sums to tokens x k x k. `moe_layer` is the
    earlier layer; the coordinate `next_layer` has the number of the later one.
    """
    hot = np.moveaxis(one_hot(expert_id, num_experts), 1, 0).astype(np.float32)
    pairs = (hot[:-1].swapaxes(1, 2) @ hot[1:]).astype(np.int32)
    counts = per_layer(expert_id.isel(moe_layer=slice(0, -1)), pairs, "expert", "next_expert")
    if "moe_layer" in expert_id.coords:
        return counts.assign_coords(next_layer=("moe_layer", expert_id.coords["moe_layer"].values[1:]))
    return counts


def relative_bias(expert_bias: xr.DataArray) -> xr.DataArray:
    """Return the bias minus the layer's mean bias. Adding the same number to all biases changes no selection."""
    return expert_bias - expert_bias.mean("expert")


def entry_score(biased: xr.DataArray, expert_id: xr.DataArray) -> xr.DataArray:
    """Return the lowest biased score among the selected experts, [token, moe_layer]."""
    selected = one_hot(expert_id, biased.sizes["expert"])
    return biased.isel(expert=0, drop=True).copy(data=np.where(selected, biased.values, np.inf).min(-1))


def untouched_layers(interventions: Iterable[Mapping[str, Any]], moe_layers: xr.DataArray) -> xr.DataArray:
    """Return a mask of layers whose selection the interventions left as trained, [moe_layer].

    Args:
        interventions: interventions of a run as JSON values; one without a layer applies to all layers.
        moe_layers: model layer numbers of the MoE layers.
    """
    touched = {layer for change in interventions for layer in change.get("layers") or [change.get("layer")]}
    mask = [None not in touched and layer not in touched for layer in moe_layers.values.tolist()]
    return xr.DataArray(mask, dims=("moe_layer",), coords={"moe_layer": moe_layers})


def share_interval(taken: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval of the share `taken` / `total` of independent tokens; 0 to 1 without tokens.

    >>> tuple(round(bound, 3) for bound in share_interval(3, 10))
    (0.108, 0.603)
    """
    low, high = share_intervals(np.array(taken), total, confidence)
    return low.item(), high.item()


def share_intervals(
    taken: np.ndarray, total: np.ndarray | int, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Return Wilson's intervals of many shares, as `share_interval` does: lower and upper bounds."""
    z, number = statistics.NormalDist().inv_cdf((1 + confidence) / 2), np.maximum(total, 1)
    share = taken / number
    middle = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    reach = z / (1 + z**2 / number) * np.sqrt(share * (1 - share) / number + (z / (2 * number)) ** 2)
    none = np.equal(total, 0)
    return np.where(none, 0, np.maximum(0, middle - reach)), np.where(none, 1, np.minimum(1, middle + reach))


def lost_to_bias(router_score: xr.DataArray, expert_id: xr.DataArray, rule: RouterRule) -> xr.DataArray:
    """Return a mask of unselected experts that would be selected without the bias, [token, moe_layer, expert]."""
    would = rule.select(router_score.values)
    return router_score.copy(data=would & ~one_hot(expert_id, router_score.sizes["expert"]))


def lost_to_group_limit(biased: xr.DataArray, expert_id: xr.DataArray, rule: RouterRule) -> xr.DataArray:
    """Return a mask of unselected experts that would be selected without the group limit.

    The mask and the biased scores are [token, moe_layer, expert].
    """
    would = rule.ungrouped.select(biased.values)
    return biased.copy(data=would & ~one_hot(expert_id, biased.sizes["expert"]))
