"""What follows from a trace: load balance, routing, attention. Labelled arrays in, labelled arrays out.

The unit is (layer, expert): nothing is summed over layers. Load is counted in *slots*: a token takes top-k slots in
each mixture layer. Everything here is derived from recorded numbers; no selection is made again except where a function
says so (`lost_to_bias`, `lost_to_group_limit`).

Sources: MaxVio from auxiliary-loss-free balancing (arXiv 2408.15664); relative load from the DeepSeek-V3 report, figure
9; co-activation from OLMoE (arXiv 2409.02060), over all pairs; rollout from Abnar and Zuidema (arXiv 2005.00928).
"""

import dataclasses
import functools

import numpy as np
import xarray as xr

# --- load ------------------------------------------------------------------------------------------------------------


def tokens_per_expert(
    expert_id: xr.DataArray, num_experts: int, token_mask: xr.DataArray | None = None
) -> xr.DataArray:
    """Slots each expert took, [moe_layer, expert] int64.

    Args:
        expert_id: [token, moe_layer, rank]; -1 marks an unknown slot and is not counted.
        num_experts: routed experts of the model, so that idle ones are counted as 0.
        token_mask: [token], True for the tokens to count; None counts all.
    """
    kept = expert_id if token_mask is None else expert_id.isel(token=np.flatnonzero(token_mask.values))
    slots = kept.transpose("moe_layer", "token", "rank").values.reshape(kept.sizes["moe_layer"], -1)
    offsets = np.arange(len(slots))[:, None] * num_experts
    known = slots >= 0
    counts = np.bincount((slots + offsets)[known], minlength=len(slots) * num_experts)
    return _like_layers(expert_id, counts.reshape(len(slots), num_experts), "expert")


def relative_load(counts: xr.DataArray) -> xr.DataArray:
    """Each expert's slots over the layer's mean: 1 is fair, 0 dead. NaN where nothing was counted."""
    return _over_mean(counts, counts)


def max_violation(counts: xr.DataArray) -> xr.DataArray:
    """MaxVio, [moe_layer]: by how much the busiest expert exceeds the mean, in units of the mean."""
    return _over_mean(counts.max("expert"), counts) - 1


def coefficient_of_variation(counts: xr.DataArray) -> xr.DataArray:
    """Population standard deviation over the mean, [moe_layer]."""
    return _over_mean(counts.std("expert"), counts)


def normalised_entropy(counts: xr.DataArray) -> xr.DataArray:
    """Entropy of the shares over its maximum, [moe_layer]: 1 is uniform, 0 one expert for everything."""
    shares = (counts / counts.sum("expert")).values
    terms = np.where(shares > 0, -shares * np.log(np.where(shares > 0, shares, 1)), 0).sum(-1)
    empty = counts.sum("expert").values == 0
    return _like_layers(counts, np.where(empty, np.nan, terms / np.log(counts.sizes["expert"])))


def gini(counts: xr.DataArray) -> xr.DataArray:
    """Gini coefficient of the slots, [moe_layer]: 0 is uniform."""
    ascending = np.sort(counts.values, axis=-1).astype(float)
    num_experts, total = ascending.shape[-1], ascending.sum(-1)
    weighted = ((2 * np.arange(1, num_experts + 1) - num_experts - 1) * ascending).sum(-1)
    with np.errstate(invalid="ignore"):
        return _like_layers(counts, weighted / (num_experts * total))


def dead_experts(counts: xr.DataArray) -> xr.DataArray:
    """True for experts without a single slot, [moe_layer, expert]. With few tokens that may be chance: see LoadBand."""
    return counts == 0


def hot_experts(counts: xr.DataArray, ratio: float = 2.0) -> xr.DataArray:
    """True for experts with at least `ratio` times the mean, [moe_layer, expert]."""
    return relative_load(counts) >= ratio


@dataclasses.dataclass(frozen=True, slots=True)
class LoadBand:
    """What fair routing alone gives for so many tokens, by simulation; ratios to uniform.

    Attributes:
        low, high: bounds between which one given expert's relative load falls with the stated confidence.
        max_violation: MaxVio that a fair layer exceeds with probability 1 - confidence only.
        dead: expected number of experts without a slot.
    """

    num_tokens: int
    confidence: float
    low: float
    high: float
    max_violation: float
    dead: float


@functools.lru_cache(maxsize=64)
def load_band(
    num_tokens: int,
    num_experts: int,
    top_k: int,
    num_groups: int = 1,
    kept_groups: int = 1,
    confidence: float = 0.95,
    draws: int = 400,
    seed: int = 0,
) -> LoadBand:
    """Parametric bootstrap of a fair router: every token keeps groups at random, then experts of those at random.

    Raises:
        ValueError: no tokens to simulate.
    """
    if num_tokens < 1:
        raise ValueError("a load band needs at least one token")
    rng = np.random.default_rng(seed)
    counts = np.zeros((draws, num_experts), dtype=np.int64)
    for draw in range(draws):
        ids = _fair_choice(rng, num_tokens, num_experts, top_k, num_groups, kept_groups)
        counts[draw] = np.bincount(ids.ravel(), minlength=num_experts)
    ratios = counts / (num_tokens * top_k / num_experts)
    tail = (1 - confidence) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    worst = np.quantile(ratios.max(-1), confidence) - 1
    return LoadBand(num_tokens, confidence, float(low), float(high), float(worst), float((counts == 0).sum(-1).mean()))


def _fair_choice(
    rng: np.random.Generator, num_tokens: int, num_experts: int, top_k: int, num_groups: int, kept_groups: int
) -> np.ndarray:
    """Expert ids [token, rank] without repetition inside randomly kept groups."""
    keys = rng.random((num_tokens, num_experts), dtype=np.float32)
    if kept_groups < num_groups:
        group_keys = rng.random((num_tokens, num_groups), dtype=np.float32)
        dropped = np.argsort(group_keys, axis=1).argsort(axis=1) >= kept_groups
        keys[np.repeat(dropped, num_experts // num_groups, axis=1)] = -1
    return np.argpartition(-keys, top_k - 1, axis=1)[:, :top_k]


def tokens_per_group(counts: xr.DataArray, num_groups: int) -> xr.DataArray:
    """Slots each group took, [moe_layer, group]."""
    grouped = counts.values.reshape(len(counts), num_groups, -1).sum(-1)
    return _like_layers(counts, grouped, "group")


def group_utilisation(group_kept: xr.DataArray) -> xr.DataArray:
    """Share of tokens that kept the group, [moe_layer, group]; its mean is kept groups over groups."""
    return group_kept.mean("token")


# --- routing ---------------------------------------------------------------------------------------------------------


def one_hot(expert_id: xr.DataArray, num_experts: int) -> np.ndarray:
    """Whether a token went to an expert, bool [token, moe_layer, expert]; unknown slots (-1) count for none."""
    ids = expert_id.transpose("token", "moe_layer", "rank").values.astype(np.int64)
    hot = np.zeros((*ids.shape[:2], num_experts + 1), dtype=bool)
    np.put_along_axis(hot, ids, True, axis=-1)  # -1 lands in the spare last column
    return hot[..., :num_experts]


def coactivation(expert_id: xr.DataArray, num_experts: int) -> xr.DataArray:
    """Of the tokens of `expert`, the share that also went to `other_expert`, [moe_layer, expert, other_expert].

    Over all pairs of a token's experts. The diagonal is 1; the rows of an expert without tokens are NaN.
    """
    hot = one_hot(expert_id, num_experts).astype(np.float64)
    together = np.einsum("tle,tlf->lef", hot, hot, optimize=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = together / np.diagonal(together, axis1=1, axis2=2)[:, :, None]
    return _like_layers(expert_id, shares, "expert", "other_expert")


def transitions(expert_id: xr.DataArray, num_experts: int) -> xr.DataArray:
    """Slot pairs from a layer to the next mixture layer, [moe_layer (the earlier), expert, next_expert].

    Over all k x k pairs of a token, so that each layer's matrix sums to tokens x k x k.
    """
    hot = one_hot(expert_id, num_experts).astype(np.float64)
    pairs = np.einsum("tle,tlf->lef", hot[:, :-1], hot[:, 1:], optimize=True).astype(np.int64)
    return _like_layers(expert_id.isel(moe_layer=slice(0, -1)), pairs, "expert", "next_expert")


def biased_score(router_score: xr.DataArray, expert_bias: xr.DataArray) -> xr.DataArray:
    """What the selection compares: affinity plus bias, [token, moe_layer, expert]."""
    return router_score + expert_bias


def lost_to_bias(
    router_score: xr.DataArray, expert_id: xr.DataArray, num_groups: int, kept_groups: int
) -> xr.DataArray:
    """Experts that were not selected and would have been with every bias at zero, [token, moe_layer, expert]."""
    would = _select(router_score.values, expert_id.sizes["rank"], num_groups, kept_groups)
    return router_score.copy(data=would & ~one_hot(expert_id, router_score.sizes["expert"]))


def lost_to_group_limit(router_score: xr.DataArray, expert_bias: xr.DataArray, expert_id: xr.DataArray) -> xr.DataArray:
    """Experts that were not selected and would have been without the group limit, [token, moe_layer, expert]."""
    biased = biased_score(router_score, expert_bias)
    would = _select(biased.values, expert_id.sizes["rank"], 1, 1)
    return router_score.copy(data=would & ~one_hot(expert_id, router_score.sizes["expert"]))


def _select(scores: np.ndarray, top_k: int, num_groups: int, kept_groups: int) -> np.ndarray:
    """The published selection rule on given scores, as a mask [token, moe_layer, expert]."""
    if kept_groups < num_groups:
        grouped = scores.reshape(*scores.shape[:-1], num_groups, -1)
        best_two = np.partition(grouped, -2, axis=-1)[..., -2:].sum(-1)
        worst_kept = np.partition(best_two, -kept_groups, axis=-1)[..., -kept_groups]
        scores = np.where((best_two >= worst_kept[..., None])[..., None], grouped, -np.inf).reshape(scores.shape)
    chosen = np.argpartition(scores, -top_k, axis=-1)[..., -top_k:]
    mask = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(mask, chosen, True, axis=-1)
    return mask


def expert_margin(biased: xr.DataArray, expert_id: xr.DataArray, group_kept: xr.DataArray) -> xr.DataArray:
    """Biased score of the last selected expert minus the best unselected one in the kept groups, [token, moe_layer]."""
    selected = one_hot(expert_id, biased.sizes["expert"])
    group_size = biased.sizes["expert"] // group_kept.sizes["group"]
    reachable = np.repeat(group_kept.values, group_size, axis=-1)
    lowest_in = np.where(selected, biased.values, np.inf).min(-1)
    best_out = np.where(reachable & ~selected, biased.values, -np.inf).max(-1)
    return xr.DataArray(lowest_in - best_out, dims=("token", "moe_layer"), coords=_layer_coords(biased))


def group_margin(group_score: xr.DataArray, group_kept: xr.DataArray) -> xr.DataArray:
    """Score of the last kept group minus the best dropped one, [token, moe_layer]; infinite when all are kept."""
    lowest_in = group_score.where(group_kept, np.inf).min("group")
    return lowest_in - group_score.where(~group_kept, -np.inf).max("group")


def mutual_information(counts: np.ndarray) -> float:
    """Mutual information in nats of the two axes of a table of counts, such as [domain, expert]."""
    joint = counts / counts.sum()
    product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / product[seen])).sum())


# --- text ------------------------------------------------------------------------------------------------------------


def surprisal_bits(logprob: xr.DataArray) -> xr.DataArray:
    """How unexpected each token was, in bits; NaN where unknown (the first token)."""
    return -logprob / np.log(2)


def bits_per_byte(nats: float, num_bytes: int) -> float:
    """Summed negative log-probability in nats over the bytes of the text it is of, in bits per byte."""
    return nats / (np.log(2) * num_bytes)


# --- attention -------------------------------------------------------------------------------------------------------


def attention_entropy(attention: xr.DataArray) -> xr.DataArray:
    """Entropy of each row over its maximum ln(visible keys), [..., head, query]; NaN for the first query."""
    weights = attention.values
    terms = np.where(weights > 0, -weights * np.log(np.where(weights > 0, weights, 1)), 0).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        normalised = terms / np.log(np.arange(1, weights.shape[-2] + 1))
    return attention.isel(key=0, drop=True).copy(data=normalised)


def first_token_share(attention: xr.DataArray) -> xr.DataArray:
    """Weight on the first token, [..., head, query]; the first query has no choice and is NaN."""
    return _without_first_query(attention.isel(key=0, drop=True))


def mean_distance(attention: xr.DataArray) -> xr.DataArray:
    """Weighted mean of how many tokens back a query looks, [..., head, query]; NaN for the first query."""
    positions = np.arange(attention.sizes["key"])
    distances = xr.DataArray(positions[:, None] - positions[None, :], dims=("query", "key")).clip(min=0)
    return _without_first_query((attention * distances).sum("key"))


def rollout(attention: xr.DataArray) -> xr.DataArray:
    """Attention rollout, [attention_layer, query, key]: heads averaged, half of each step kept as identity.

    Args:
        attention: [attention_layer, head, query, key], layers in ascending order, rows summing to one.
    """
    mean = attention.mean("head")
    reached = np.eye(mean.sizes["query"])
    steps = np.empty(mean.shape)
    for index, weights in enumerate(mean.values):
        reached = 0.5 * weights @ reached + 0.5 * reached
        steps[index] = reached
    return mean.copy(data=steps)


def mean_by_distance(values: xr.DataArray) -> xr.DataArray:
    """Mean of a [query, key] array over the pairs that lie equally far apart, [distance]; NaN pairs are left out."""
    square = values.transpose("query", "key").values
    queries, keys = np.tril_indices(len(square))
    pairs, known = square[queries, keys], ~np.isnan(square[queries, keys])
    distances = (queries - keys)[known]
    sums = np.bincount(distances, weights=pairs[known], minlength=len(square))
    with np.errstate(invalid="ignore", divide="ignore"):
        return xr.DataArray(sums / np.bincount(distances, minlength=len(square)), dims=("distance",))


def _without_first_query(values: xr.DataArray) -> xr.DataArray:
    return values.where(xr.DataArray(np.arange(values.sizes["query"]) > 0, dims=("query",)))


# --- labels ----------------------------------------------------------------------------------------------------------


def _layer_coords(array: xr.DataArray) -> dict[str, xr.DataArray]:
    return {"moe_layer": array.coords["moe_layer"]} if "moe_layer" in array.coords else {}


def _like_layers(source: xr.DataArray, values: np.ndarray, *dims: str) -> xr.DataArray:
    return xr.DataArray(values, dims=("moe_layer", *dims), coords=_layer_coords(source))


def _over_mean(values: xr.DataArray, counts: xr.DataArray) -> xr.DataArray:
    mean = counts.mean("expert")
    return values / mean.where(mean > 0)
