"""Facts about attention: where the heads of a run look. Layers and heads have the model's own numbers.

A query is the token that looks, a key a token that it looks at; a query's weights sum to 1. Means over queries leave
out the first query, which sees only itself.
"""

import numpy as np

from model.trace.facts.sources import FactError, Sources

# Name of a habit -> how far before the query the key is; None: at the first token.
_HABITS: dict[str, int | None] = {"itself": 0, "previous": 1, "first": None}


def heads(sources: Sources) -> int:
    """Return the number of attention heads of a layer."""
    return sources.variable("attention").sizes["head"]


def attention(sources: Sources, layer: int, head: int, query: int, key: int) -> float:
    """Return the weight that a query gives to a key."""
    return float(_weights(sources, layer, head)[sources.token(query), sources.token(key)])


def attention_sum(sources: Sources, layer: int, head: int, query: int) -> float:
    """Return the sum of a query's weights."""
    return float(_weights(sources, layer, head)[sources.token(query)].sum())


def most_attended(sources: Sources, layer: int, head: int, query: int) -> int:
    """Return the key with the largest weight of a query."""
    return int(_weights(sources, layer, head)[sources.token(query)].argmax())


def attention_ahead(sources: Sources) -> float:
    """Return the largest weight, over all layers and heads, that a query gives to a later token."""
    weights = sources.variable("attention").values
    return float(np.triu(weights, 1).max())


def habit(sources: Sources, name: str, layer: int, head: int) -> float:
    """Return the mean weight of a head on one kind of key, from 0 to 1.

    Args:
        sources: what facts read.
        name: "itself", "previous" (the token before the query) or "first" (the first token of the run).
        layer: model layer number.
        head: number of the head.
    """
    return float(_habits(sources, name)[_place(sources, layer), _head(sources, head)])


def habit_layer(sources: Sources, name: str) -> int:
    """Return the layer of the head with the largest `habit` of this name."""
    return int(sources.variable("attention")["attention_layer"].values[_strongest(sources, name)[0]])


def habit_head(sources: Sources, name: str) -> int:
    """Return the number of the head with the largest `habit` of this name, in `habit_layer`."""
    return _strongest(sources, name)[1]


def sinks(sources: Sources, layer: int) -> int:
    """Return the number of heads of a layer whose mean weight on the first token exceeds 0.3."""
    return int((_habits(sources, "first")[_place(sources, layer)] > 0.3).sum())


def mean_distance(sources: Sources, layer: int, head: int) -> float:
    """Return the mean distance from a head's queries to their keys in tokens, weighted by attention."""
    weights = _weights(sources, layer, head)
    distances = np.subtract.outer(np.arange(len(weights)), np.arange(len(weights))).clip(0)
    return float((weights * distances).sum(-1)[1:].mean())


def _strongest(sources: Sources, name: str) -> tuple[int, int]:
    values = _habits(sources, name)
    place, head = np.unravel_index(int(values.argmax()), values.shape)
    return int(place), int(head)


def _habits(sources: Sources, name: str) -> np.ndarray:
    """Return the mean weight of every head on one kind of key, [layer, head]."""
    if name not in _HABITS:
        raise FactError(f"{name!r:.40} is no habit; known are {', '.join(_HABITS)}")
    weights, back = sources.variable("attention").values, _HABITS[name]
    if weights.shape[-1] < 2:
        raise FactError("the text has only one token, which sees only itself")
    if back is None:
        return weights[..., 1:, 0].mean(-1)
    queries = np.arange(1, weights.shape[-1])
    return weights[..., queries, queries - back].mean(-1)


def _place(sources: Sources, layer: int) -> int:
    labels = sources.variable("attention")["attention_layer"].values.tolist()
    if layer not in labels:
        raise FactError(f"layer {layer} has no attention in this run")
    return labels.index(layer)


def _head(sources: Sources, head: int) -> int:
    if not (isinstance(head, int) and 0 <= head < heads(sources)):
        raise FactError(f"a layer has no head {head}; the last one is {heads(sources) - 1}")
    return head


def _weights(sources: Sources, layer: int, head: int) -> np.ndarray:
    """Return the weights of a head, [query, key]."""
    return sources.variable("attention").values[_place(sources, layer), _head(sources, head)]
