"""What a head looks at, in numbers. Attention weights in, labelled arrays out.

Weights are [..., head, query, key]: a row is a query, its entries sum to one, keys after the query are zero. The first
query sees only itself; where that says nothing about the head, it is NaN.

Sources: rollout from Abnar and Zuidema (arXiv 2005.00928), which ignores the values and the feed-forward layers.

    >>> weights = xr.DataArray([[[1.0, 0.0], [0.25, 0.75]]], dims=("head", "query", "key"))
    >>> first_token_share(weights).sel(query=1).values.tolist()
    [0.25]
"""

import numpy as np
import xarray as xr


def head_figures(attention: xr.DataArray, top_k: int | None = None) -> xr.Dataset:
    """`entropy`, `first_token_share` and `mean_distance` of every head and query, each [..., head, query].

    `top_k` is as for `attention_entropy`.
    """
    return xr.Dataset(
        {
            "entropy": attention_entropy(attention, top_k),
            "first_token_share": first_token_share(attention),
            "mean_distance": mean_distance(attention),
        }
    )


def over_queries(figures: xr.Dataset, queries: np.ndarray) -> xr.Dataset:
    """A head's figures over some queries: their mean, tenth and ninetieth percentile, each [statistic, ..., head].

    Args:
        figures: from `head_figures`.
        queries: places of the queries that count, from `choosing_queries`; NaN comes out where there are none.
    """
    kept = figures.isel(query=queries)
    if len(queries):
        low, high = (kept.quantile(share, "query").drop_vars("quantile") for share in (0.1, 0.9))
        parts = [kept.mean("query"), low, high]
    else:
        parts = [kept.sum("query") * np.nan] * 3
    return xr.concat(parts, "statistic").assign_coords(statistic=["mean", "low", "high"])


def choosing_queries(counted: xr.DataArray) -> np.ndarray:
    """Places of the queries that count, [token] bool, without the first, which can look at nothing but itself."""
    places = np.flatnonzero(counted.values)
    return places[places > 0]


def attention_entropy(attention: xr.DataArray, top_k: int | None = None) -> xr.DataArray:
    """Entropy of each row over its maximum ln(keys that are read), [..., head, query]; NaN for the first query.

    Args:
        attention: the weights.
        top_k: keys that an indexer keeps of each query at most; None where every visible key is read.
    """
    weights = attention.values
    num_queries = weights.shape[-2]
    read = np.minimum(np.arange(1, num_queries + 1), top_k or num_queries)
    terms = np.where(weights > 0, -weights * np.log(np.where(weights > 0, weights, 1)), 0).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        normalised = terms / np.log(read)
    return attention.isel(key=0, drop=True).copy(data=normalised)


def first_token_share(attention: xr.DataArray) -> xr.DataArray:
    """Weight on the first token, [..., head, query]; the first query has no choice and is NaN."""
    return _without_first_query(attention.isel(key=0, drop=True))


def mean_distance(attention: xr.DataArray) -> xr.DataArray:
    """Weighted mean of how many tokens back a query looks, [..., head, query]; NaN for the first query."""
    positions = np.arange(attention.sizes["key"])
    distances = xr.DataArray(positions[:, None] - positions[None, :], dims=("query", "key")).clip(min=0)
    return _without_first_query((attention * distances).sum("key"))


def mean_of_heads(values: xr.DataArray) -> xr.DataArray:
    """Return the mean over heads of [..., head, ...], without that axis."""
    return values.mean("head")


def sinks(summary: xr.Dataset, share: float = 0.3) -> int:
    """Count the heads whose mean share on the first token exceeds `share`.

    Args:
        summary: from `over_queries`, one layer's heads.
        share: of a query's attention.
    """
    return int((summary["first_token_share"].sel(statistic="mean") > share).sum())


def rollout(attention: xr.DataArray) -> xr.DataArray:
    """Attention rollout, [attention_layer, query, key]: heads averaged, half of each step kept as identity.

    Args:
        attention: [attention_layer, head, query, key], layers in ascending order, rows summing to one.
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
