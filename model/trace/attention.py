"""Statistics of attention heads: functions of attention weights that return labelled arrays.

Weights are [..., head, query, key]. A row belongs to a query and sums to one; keys after the query have weight 0. The
first query sees only itself, so its statistics are NaN.

Source of the rollout: Abnar and Zuidema (arXiv 2005.00928). Rollout ignores the values and the feed-forward layers.

    >>> weights = xr.DataArray([[[1.0, 0.0], [0.25, 0.75]]], dims=("head", "query", "key"))
    >>> first_token_share(weights).sel(query=1).values.tolist()
    [0.25]
"""

import numpy as np
import xarray as xr

ALL_HEADS = -1  # in place of a head's number: the mean of the recorded heads


def head_figures(attention: xr.DataArray, top_k: int | None = None) -> xr.Dataset:
    """Return `entropy`, `first_token_share` and `mean_distance` of every head and query, each [..., head, query].

    `top_k` is passed to `attention_entropy`.
    """
    return xr.Dataset(
        {
            "entropy": attention_entropy(attention, top_k),
            "first_token_share": first_token_share(attention),
            "mean_distance": mean_distance(attention),
        }
    )


def share_elsewhere(row: xr.DataArray) -> float:
    """Return the part of one query's attention that lies on no single token of the text; `row` is [key].

    It is 0 in most models. A head with a sink leaves a part of its attention unused (gpt-oss, DeepSeek-V4), and a layer
    of DeepSeek-V4 also reads entries that stand for several tokens each. NaN if the weight of a key is not known.
    """
    return float((1 - row.sum(skipna=False)).clip(min=0))


def over_queries(figures: xr.Dataset, queries: np.ndarray) -> xr.Dataset:
    """Return mean, 10th and 90th percentile of the heads' statistics over queries, each [statistic, ..., head].

    Args:
        figures: statistics from `head_figures`.
        queries: positions of the queries to include, from `choosing_queries`. Without any, the result is NaN.
    """
    counted = figures.isel(query=queries)
    if len(queries):
        low, high = (counted.quantile(share, "query").drop_vars("quantile") for share in (0.1, 0.9))
        parts = [counted.mean("query"), low, high]
    else:
        parts = [counted.sum("query") * np.nan] * 3
    return xr.concat(parts, "statistic").assign_coords(statistic=["mean", "low", "high"])


def choosing_queries(counted: xr.DataArray) -> np.ndarray:
    """Return the positions where a mask [token] is true, except the first query, which sees only itself."""
    positions = np.flatnonzero(counted.values)
    return positions[positions > 0]


def attention_entropy(attention: xr.DataArray, top_k: int | None = None) -> xr.DataArray:
    """Return each query's entropy divided by its maximum, ln(number of keys read); NaN for the first query.

    Args:
        attention: weights, [..., head, query, key].
        top_k: largest number of keys that the indexer keeps for a query; None if a query reads every visible key.
    """
    weights = attention.values
    num_queries = weights.shape[-2]
    read = np.minimum(np.arange(1, num_queries + 1), top_k or num_queries)
    terms = np.where(weights > 0, -weights * np.log(np.where(weights > 0, weights, 1)), 0).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        normalised = terms / np.log(read)
    return attention.isel(key=0, drop=True).copy(data=normalised)


def first_token_share(attention: xr.DataArray) -> xr.DataArray:
    """Return the attention weight on the first token, [..., head, query]; NaN for the first query."""
    return _without_first_query(attention.isel(key=0, drop=True))


def mean_distance(attention: xr.DataArray) -> xr.DataArray:
    """Return the mean distance to the keys in tokens, weighted by attention, [..., head, query].

    NaN for the first query.
    """
    positions = np.arange(attention.sizes["key"])
    distances = xr.DataArray(positions[:, None] - positions[None, :], dims=("query", "key")).clip(min=0)
    return _without_first_query((attention * distances).sum("key"))


def mean_of_heads(values: xr.DataArray) -> xr.DataArray:
    """Return the mean over the axis `head`."""
    return values.mean("head")


def sinks(summary: xr.Dataset, share: float = 0.3) -> int:
    """Return the number of heads whose mean attention weight on the first token exceeds `share`.

    Args:
        summary: statistics of one layer's heads, from `over_queries`.
        share: threshold, as a share of a query's attention.
    """
    return int((summary["first_token_share"].sel(statistic="mean") > share).sum())


def rollout(attention: xr.DataArray) -> xr.DataArray:
    """Return the attention rollout, [attention_layer, query, key].

    It is the product of one matrix per layer: half the identity, for the residual stream, plus half the mean attention
    of the layer's heads.

    Args:
        attention: weights, [attention_layer, head, query, key], layers in ascending order.
    """
    mean = mean_of_heads(attention)
    reached = np.eye(mean.sizes["query"])
    steps = np.empty(mean.shape)
    for index, weights in enumerate(mean.values):
        reached = 0.5 * weights @ reached + 0.5 * reached
        steps[index] = reached
    return mean.copy(data=steps)


def _without_first_query(values: xr.DataArray) -> xr.DataArray:
    return values.where(xr.DataArray(np.arange(values.sizes["query"]) > 0, dims=("query",)))
