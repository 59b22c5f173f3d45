"""Facts about an indexer: the keys that it keeps for each token, and the attention that lies on them.

Means leave out tokens that read every earlier token. Recall is the share of dense attention, which reads every key, on
the kept keys: a mean over heads.
"""

import numpy as np
import xarray as xr

from model.trace import sparse
from model.trace.facts.sources import FactError, Sources


def index_top_k(sources: Sources) -> int:
    """Return the largest number of keys that the indexer keeps for a token."""
    stated = sources.trace.config.get("index_topk")
    if not isinstance(stated, int):
        raise FactError("this model has no indexer; choose mini-v32 in the sidebar")
    return stated


def keys_kept(sources: Sources, token: int, layer: int) -> int:
    """Return the number of keys that a token keeps in a layer."""
    return int(_kept(sources, layer).values[sources.token(token)].sum())


def keeps(sources: Sources, token: int, layer: int, key: int) -> bool:
    """Return whether a token keeps a key in a layer."""
    return bool(_kept(sources, layer).values[sources.token(token), sources.token(key)])


def skipping_tokens(sources: Sources, layer: int) -> int:
    """Return the number of tokens that left out an earlier token."""
    return len(sparse.choosing(_kept(sources, layer)))


def recall(sources: Sources, layer: int) -> float:
    """Return the recall of the indexer's selection, from 0 to 1."""
    return _mean_recall(sources, layer, _kept(sources, layer))


def best_recall(sources: Sources, layer: int) -> float:
    """Return the recall of the keys with the most dense attention, as many as the indexer keeps."""
    return _mean_recall(sources, layer, sparse.best_at(_dense(sources, layer), index_top_k(sources)))


def recent_recall(sources: Sources, layer: int) -> float:
    """Return the recall of the latest keys, as many as the indexer keeps."""
    kept, size = _kept(sources, layer), sources.trace.num_tokens
    latest = np.tri(size, dtype=bool) & ~np.tri(size, k=-index_top_k(sources), dtype=bool)
    return _mean_recall(sources, layer, kept.copy(data=latest))


def random_recall(sources: Sources, layer: int) -> float:
    """Return the recall to expect of random keys, as many as the indexer keeps: the share of keys that is kept."""
    queries = _choosing(sources, layer)
    return float((index_top_k(sources) / (queries + 1)).mean())


def attention_on_skipped(sources: Sources, layer: int) -> float:
    """Return the largest weight that a head of the run gave to a key that the token left out."""
    weights = sources.at("attention", layer, "attention_layer")
    return float(np.where(_kept(sources, layer).values, 0, weights).max())


def old_share(sources: Sources, layer: int) -> float:
    """Return the share of kept keys that are older than the latest keys, as many as the indexer keeps."""
    kept, queries = _kept(sources, layer).values, _choosing(sources, layer)
    old = np.tri(len(kept), k=-index_top_k(sources), dtype=bool)
    return float((kept & old)[queries].sum() / kept[queries].sum())


def same_keys(sources: Sources, token: int, layer: int, other: int) -> int:
    """Return the number of keys that a token keeps in two layers alike."""
    rows = [_kept(sources, number).values[sources.token(token)] for number in (layer, other)]
    return int((rows[0] & rows[1]).sum())


def _kept(sources: Sources, layer: int) -> xr.DataArray:
    index_top_k(sources)
    return xr.DataArray(sources.at("indexer_kept", layer, "indexer_layer"), dims=("query", "key"))


def _choosing(sources: Sources, layer: int) -> np.ndarray:
    """Return the tokens that left out a key.

    Raises:
        FactError: every token reads every earlier token.
    """
    queries = sparse.choosing(_kept(sources, layer))
    if not len(queries):
        raise FactError(f"no token left out a key; the text needs more than {index_top_k(sources)} tokens")
    return queries


def _dense(sources: Sources, layer: int) -> xr.DataArray:
    if sources.dense is None:
        raise FactError("attention without a selection is not known here")
    return sources.dense(layer)


def _mean_recall(sources: Sources, layer: int, kept: xr.DataArray) -> float:
    queries = _choosing(sources, layer)
    return float(sparse.recall(_dense(sources, layer), kept).isel(query=queries).mean())
