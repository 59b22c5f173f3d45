"""The load of the experts of each layer, and measures of how even it is.

Experts are counted per layer; nothing is summed over layers. Load is counted in *slots*: a token fills top-k slots in
each MoE layer. `chance.py` computes the load of a router that selects at random, `routing.py` and
`attention.py` other statistics.

Sources: MaxVio from auxiliary-loss-free balancing (arXiv 2408.15664); relative load from the DeepSeek-V3 report, figure
9. The entropy is divided by its maximum. The standard deviation is that of the population.

    >>> counts = xr.DataArray([[6, 2, 0, 0]], dims=("moe_layer", "expert"), coords={"moe_layer": [3]})
    >>> relative_load(counts).sel(moe_layer=3).values.tolist()
    [3.0, 1.0, 0.0, 0.0]
    >>> max_violation(counts).item()
    2.0
"""

import numpy as np
import xarray as xr


def tokens_per_expert(
    expert_id: xr.DataArray, num_experts: int, token_mask: xr.DataArray | None = None
) -> xr.DataArray:
    """Return the number of slots of each expert, [moe_layer, expert] int64.

    Args:
        expert_id: expert ids, [token, moe_layer, rank]; -1 is an unknown slot, which is not counted.
        num_experts: number of routed experts of the model; an expert without a slot has the count 0.
        token_mask: tokens to count, [token] bool; None: all.

    Raises:
        ValueError: an id is not one of the model's experts.
    """
    require_experts(expert_id, num_experts)
    kept = expert_id if token_mask is None else expert_id.isel(token=np.flatnonzero(token_mask.values))
    slots = kept.transpose("moe_layer", "token", "rank").values.reshape(kept.sizes["moe_layer"], -1)
    offsets = np.arange(len(slots))[:, None] * num_experts
    known = slots >= 0
    counts = np.bincount((slots + offsets)[known], minlength=len(slots) * num_experts)
    return per_layer(expert_id, counts.reshape(len(slots), num_experts), "expert")


def has_experts(expert_id: xr.DataArray) -> xr.DataArray:
    """Return a mask of tokens whose experts are known in every layer, [token]. Engines do not record every token."""
    return (expert_id >= 0).all(["moe_layer", "rank"])


def relative_load(counts: xr.DataArray, dim: str = "expert") -> xr.DataArray:
    """Return the load of each expert or device divided by the layer's mean; NaN if nothing was counted."""
    return _over_mean(counts, counts, dim)


def max_violation(counts: xr.DataArray) -> xr.DataArray:
    """Return MaxVio, [moe_layer]: the load of the busiest expert minus the mean load, divided by the mean load."""
    return _over_mean(counts.max("expert"), counts) - 1


def coefficient_of_variation(counts: xr.DataArray, ddof: int = 0) -> xr.DataArray:
    """Return the standard deviation divided by the mean, [moe_layer]; `ddof=1`: the standard deviation of a sample."""
    return _over_mean(counts.std("expert", ddof=ddof), counts)


def normalised_entropy(counts: xr.DataArray) -> xr.DataArray:
    """Return the entropy of the load over its maximum, [moe_layer]: 1 if uniform, 0 if one expert has all load."""
    shares = (counts / counts.sum("expert")).values
    terms = np.where(shares > 0, -shares * np.log(np.where(shares > 0, shares, 1)), 0).sum(-1)
    empty = counts.sum("expert").values == 0
    return per_layer(counts, np.where(empty, np.nan, terms / np.log(counts.sizes["expert"])))


def gini(counts: xr.DataArray) -> xr.DataArray:
    """Return the Gini coefficient of the load, [moe_layer]: 0 is uniform."""
    ascending = np.sort(counts.values, axis=-1).astype(float)
    num_experts, total = ascending.shape[-1], ascending.sum(-1)
    weighted = ((2 * np.arange(1, num_experts + 1) - num_experts - 1) * ascending).sum(-1)
    with np.errstate(invalid="ignore"):
        return per_layer(counts, weighted / (num_experts * total))


def dead_experts(counts: xr.DataArray) -> xr.DataArray:
    """Return a mask of experts without a slot, [moe_layer, expert]. With few tokens, chance alone leaves some dead."""
    return counts == 0


def hot_experts(counts: xr.DataArray, ratio: float = 2.0) -> xr.DataArray:
    """Return a mask of experts with at least `ratio` times the mean load, [moe_layer, expert]."""
    return relative_load(counts) >= ratio


def tokens_per_group(counts: xr.DataArray, num_groups: int) -> xr.DataArray:
    """Return the number of slots that the experts of each group fill, [moe_layer, group]."""
    grouped = counts.values.reshape(len(counts), num_groups, -1).sum(-1)
    return per_layer(counts, grouped, "group")


def balancedness(load: xr.DataArray, dim: str) -> xr.DataArray:
    """Return the mean load divided by the largest along `dim`: 1 if even, 1 / n if one of n has all load."""
    return (load.mean(dim) + 1e-5) / (load.max(dim) + 1e-5)


def surprisal_bits(logprob: xr.DataArray) -> xr.DataArray:
    """Return the surprisal of each token in bits; NaN if unknown, as for the first token."""
    return -logprob / np.log(2)


def mean_surprisal_bits(logprob: xr.DataArray) -> float:
    """Return the mean of `surprisal_bits` over the tokens that have one; NaN if none has."""
    return float(surprisal_bits(logprob).mean())


def surprisal_in_words(logprob: xr.DataArray, is_prompt: xr.DataArray) -> list[str]:
    """Return phrases on the mean surprisal of the prompt and of the generated tokens, with the number of tokens.

    The two parts are separate, because a model finds its own text far less surprising than a prompt. A part without
    known tokens is left out.

    >>> logprob = xr.DataArray(np.log([np.nan, 1 / 8, 1 / 2, 1 / 2]), dims=("token",))
    >>> surprisal_in_words(logprob, xr.DataArray([True, True, False, False], dims=("token",)))
    ['3 bit of the prompt (n = 1)', '1 bit of the new tokens (n = 2)']
    """
    words = []
    for name, mask in (("the prompt", is_prompt), ("the new tokens", ~is_prompt)):
        part = logprob.where(mask)
        number = int(np.isfinite(part).sum())
        if number:
            words.append(f"{mean_surprisal_bits(part):.3g} bit of {name} (n = {number:,})")
    return words


def probability(logprob: xr.DataArray) -> xr.DataArray:
    """Return probabilities from log-probabilities in nats."""
    return xr.DataArray(np.exp(logprob))


def typical_norm(residual_norm: xr.DataArray) -> xr.DataArray:
    """Return the median of the residual norm over tokens, [layer].

    The first token's norm is often a hundred times that of the rest, so a mean would mostly show that token.
    """
    return residual_norm.median("token")


def require_experts(expert_id: xr.DataArray, num_experts: int) -> None:
    """Check that every id names an expert of the model, or is -1 for an unknown slot.

    Raises:
        ValueError: an id names no expert of the model.
    """
    ids = expert_id.values
    if ids.size and (ids.min() < -1 or ids.max() >= num_experts):
        raise ValueError(f"expert ids run from {ids.min()} to {ids.max()}; the model has {num_experts} experts")


def _layer_coords(array: xr.DataArray) -> dict[str, xr.DataArray]:
    return {"moe_layer": array.coords["moe_layer"]} if "moe_layer" in array.coords else {}


def per_layer(source: xr.DataArray, values: np.ndarray, *dims: str) -> xr.DataArray:
    """Return `values` as a [moe_layer, *dims] array with the layer labels of `source`."""
    return xr.DataArray(values, dims=("moe_layer", *dims), coords=_layer_coords(source))


def _over_mean(values: xr.DataArray, counts: xr.DataArray, dim: str = "expert") -> xr.DataArray:
    mean = counts.mean(dim)
    return values / mean.where(mean > 0)
