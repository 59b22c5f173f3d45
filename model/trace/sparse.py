"""Recall of an indexer's selection: the share of dense attention that lies on the kept keys.

The indexer's scores are [query, key], minus infinity for keys after the query. Masks are [query, key] bool. Dense
attention is [head, query, key], and each row sums to one. All heads of a layer share one selection.

    >>> scores = xr.DataArray([[1.0, -np.inf], [2.0, 1.0]], dims=("query", "key"))
    >>> kept_at(scores, 1).values.tolist()
    [[True, False], [True, False]]
"""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from model.trace.attention import mean_of_heads
from model.trace.trace import Trace


def kept_at(scores: xr.DataArray, top_k: int) -> xr.DataArray:
    """Return a mask of each query's `top_k` keys with the highest scores; the first key wins a tie.

    A query with fewer visible keys keeps all of them.
    """
    values = scores.values
    order = np.argsort(-values, axis=-1, kind="stable")[..., :top_k]
    kept = np.zeros(values.shape, dtype=bool)
    np.put_along_axis(kept, order, True, axis=-1)
    return scores.copy(data=kept & (values > -np.inf))


def selected_at(trace: Trace, layer: int, top_k: int) -> xr.DataArray:
    """Return a layer's mask of selected keys: the recorded mask if `top_k` is the model's own, else `kept_at`.

    Of keys with tied scores `kept_at` keeps the first; the run may have read a later one.
    """
    if top_k == trace.config.get("index_topk") and trace.has("indexer_kept"):
        return trace.data["indexer_kept"].sel(indexer_layer=layer, drop=True)
    return kept_at(trace.data["indexer_score"].sel(indexer_layer=layer, drop=True), top_k)


def best_at(dense: xr.DataArray, top_k: int) -> xr.DataArray:
    """Return the best selection, [query, key] bool: the `top_k` keys of each query with the largest dense attention.

    The dense attention of a key is its mean over heads.
    """
    together = mean_of_heads(dense)
    visible = np.tri(together.sizes["query"], dtype=bool)
    return kept_at(together.where(xr.DataArray(visible, dims=("query", "key")), -np.inf), top_k)


def recall(dense: xr.DataArray, kept: xr.DataArray) -> xr.DataArray:
    """Return the share of each head's dense attention that lies on kept keys, [head, query]."""
    return dense.where(kept, 0).sum("key")


def num_kept(kept: xr.DataArray) -> int:
    """Return the largest number of keys that a query keeps, which is the top-k of the selection."""
    return int(kept.sum("key").max())


def held_and_best(dense: xr.DataArray, kept: xr.DataArray, query: int) -> tuple[float, float]:
    """Return a query's recall with the keys in `kept`, and with as many best keys (`best_at`), as means over heads."""
    best = best_at(dense, int(kept.isel(query=query).sum()))
    held, most = (float(recall(dense, mask).isel(query=query).mean()) for mask in (kept, best))
    return held, most


def recall_over_text(dense: xr.DataArray, kept: xr.DataArray, head: int) -> xr.Dataset:
    """Return one head's recall with the indexer's selection, `indexer`, and with the best one, `best`, each [query].

    The best selection has as many keys as the indexer's. NaN for queries that read every key.
    """
    masks = {"indexer": kept, "best": best_at(dense, num_kept(kept))}
    chose = xr.DataArray(np.isin(np.arange(kept.sizes["query"]), choosing(kept)), dims="query")
    return xr.Dataset({name: recall(dense, mask).isel(head=head, drop=True) for name, mask in masks.items()}).where(
        chose
    )


def recall_by_head(dense: xr.DataArray, kept: xr.DataArray) -> xr.DataArray | None:
    """Return each head's mean recall over the queries that left out a key, [head]; None if no query did."""
    queries = choosing(kept)
    return recall(dense, kept).isel(query=queries).mean("query") if len(queries) else None


def mean_recall(dense: xr.DataArray, kept: xr.DataArray) -> float | None:
    """Return the mean of `recall_by_head` over heads; None if no query left out a key."""
    recalled = recall_by_head(dense, kept)
    return None if recalled is None else float(recalled.mean())


def choosing(kept: xr.DataArray) -> np.ndarray:
    """Return the positions of the queries that left out a key; for all other queries recall is 1."""
    visible = np.arange(1, kept.sizes["query"] + 1)
    return np.flatnonzero(kept.sum("key").values < visible)


def missed(dense: xr.DataArray, kept: xr.DataArray, query: int) -> xr.DataArray:
    """Return the dense attention on the keys that a query left out, mean over heads, [key], the largest first."""
    left_out = np.flatnonzero(~kept.isel(query=query).values[: query + 1])
    keys = mean_of_heads(dense).isel(query=query, key=left_out).assign_coords(key=left_out)
    return keys.isel(key=np.argsort(-keys.values, kind="stable"))


def lost(missed_keys: xr.DataArray) -> float:
    """Return the sum of `missed`: the share of a query's attention that is on left-out keys, mean over heads."""
    return float(missed_keys.sum())


def core_products(context: int, top_k: int, config: Mapping[str, int]) -> dict[str, int]:
    """Return the context-dependent multiply-adds of one layer per decoded token: dense, sparse, indexer.

    Args:
        context: number of keys that are visible to the token.
        top_k: number of keys that the indexer keeps.
        config: published configuration of a V3.2 model.
    """
    # Scores use the latent vector and the position key, values the latent vector.
    width = 2 * config["kv_lora_rank"] + config["qk_rope_head_dim"]
    per_key = config["num_attention_heads"] * width
    return {
        "dense attention": context * per_key,
        "sparse attention": min(top_k, context) * per_key,
        "indexer": context * config["index_n_heads"] * (config["index_head_dim"] + 1),
    }
