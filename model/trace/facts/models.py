"""Facts about a model without a run: parameters, cache and work. Without a name, of the model that made the run.

Names are those of embedded models, such as "mini-v3", and of published configurations, such as "deepseek-v3".
"""

from model.trace import kv_cache, sparse
from model.trace.facts.sources import FactError, Sources


def parameters(sources: Sources, model: str | None = None) -> int:
    """Return the number of parameters of a model, without multi-token prediction."""
    return sources.size(model).parameters


def active_parameters(sources: Sources, model: str | None = None) -> int:
    """Return the number of parameters that one token passes through; the embedding counts with all its rows."""
    return sources.size(model).active


def setting(sources: Sources, key: str, model: str | None = None) -> int | float:
    """Return a number of a model's published configuration, such as `n_routed_experts`."""
    value = sources.config(model).get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FactError(f"the configuration of {sources.name(model)} states no number {key!r:.40}")
    return value


def cache_bytes(sources: Sources, kind: str = kv_cache.OWN, model: str | None = None) -> int:
    """Return the bytes of cache of one token over all layers, in bfloat16.

    `kind` is a kind of attention of `model.trace.kv_cache`: "MLA" is the model's own, "MHA" keeps every head's key and
    value.
    """
    try:
        kinds = kv_cache.cache_bytes(sources.config(model))
    except KeyError as error:
        raise FactError(
            f"the configuration of {sources.name(model)} lacks {error}, which its cache depends on"
        ) from None
    if kind not in kinds:
        raise FactError(f"{kind!r:.40} is no kind of attention; known are {', '.join(kinds)}")
    return kinds[kind]


def attention_work(sources: Sources, kind: str, context: int, model: str | None = None) -> int:
    """Return the multiply-adds of one layer's attention for a token that sees `context` tokens.

    `kind` is "dense attention", "sparse attention" (of the keys that the indexer keeps) or "indexer".
    """
    config = sources.config(model)
    if "index_topk" not in config:
        raise FactError(f"{sources.name(model)} has no indexer")
    work = sparse.core_products(context, config["index_topk"], config)
    if kind not in work:
        raise FactError(f"{kind!r:.40} is no kind of work; known are {', '.join(work)}")
    return work[kind]
