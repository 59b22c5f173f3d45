"""What an indexer's selection keeps of the attention that a layer would pay without it.

Scores are [query, key], minus infinity for keys after the query; masks [query, key] bool; dense attention [head, query,
key], each row summing to one. All heads of a layer read the same selection.

    >>> scores = xr.DataArray([[1.0, -np.inf], [2.0, 1.0]], dims=("query", "key"))
    >>> kept_at(scores, 1).values.tolist()
    [[True, False], [True, False]]
"""

import numpy as np
import xarray as xr


def kept_at(scores: xr.DataArray, top_k: int) -> xr.DataArray:
    """The `top_k` best-scored keys of each query, all that it may see where there are no more; ties go to the first."""
    values = scores.values
    order = np.argsort(-values, axis=-1, kind="stable")[..., :top_k]
    kept = np.zeros(values.shape, dtype=bool)
    np.put_along_axis(kept, order, True, axis=-1)
    return scores.copy(data=kept & (values > -np.inf))


def best_at(dense: xr.DataArray, top_k: int) -> xr.DataArray:
    """The oracle: the keys that hold most of all heads' dense attention together, [query, key] bool."""
    together = dense.mean("head")
    visible = np.tri(together.sizes["query"], dtype=bool)
    return kept_at(together.where(xr.DataArray(visible, dims=("query", "key")), -np.inf), top_k)


def recall(dense: xr.DataArray, kept: xr.DataArray) -> xr.DataArray:
    """Share of each head's dense attention that lies on kept keys, [head, query]."""
    return dense.where(kept, 0).sum("key")


def choosing(kept: xr.DataArray) -> np.ndarray:
    """Places of the queries that had to leave out a key, int; nothing is said about the others."""
    visible = np.arange(1, kept.sizes["query"] + 1)
    return np.flatnonzero(kept.sum("key").values < visible)


def missed(dense: xr.DataArray, kept: xr.DataArray, query: int) -> xr.DataArray:
    """Mean attention of all heads on the keys that a query left out, [key], the largest first."""
    left_out = np.flatnonzero(~kept.isel(query=query).values[: query + 1])
    keys = dense.mean("head").isel(query=query, key=left_out).assign_coords(key=left_out)
    return keys.isel(key=np.argsort(-keys.values, kind="stable"))


def core_products(context: int, top_k: int, config: dict[str, int]) -> dict[str, int]:
    """Multiply-adds of one decoded token in one layer that grow with what is read: dense, sparse, and the indexer.

    Args:
        context: keys that the token can see.
        top_k: keys that it keeps.
        config: published keys of a V3.2 configuration.
    """
    width = 2 * config["kv_lora_rank"] + config["qk_rope_head_dim"]  # scores: latent and position; values: latent
    per_key = config["num_attention_heads"] * width
    return {
        "dense attention": context * per_key,
        "sparse attention": min(top_k, context) * per_key,
        "indexer": context * config["index_n_heads"] * (config["index_head_dim"] + 1),
    }
