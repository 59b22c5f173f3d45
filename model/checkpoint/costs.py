"""Sizes of a model's parts and their cost for one token, summed over layers from `parts.py`.

Operations are multiply-adds of matrix products for one generated token, with the absorbed form of attention; `parts.py`
says which operations are counted. This module does not import torch.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from model.checkpoint.parts import Part, Parts

CONTEXT_KINDS = ("attention", "indexer")  # the parts whose cost grows with the context
CACHE_BYTES = {"float32": 4}  # dtype of the weights -> bytes of a cached value; 2 for every narrower dtype


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """The size of a part or model, and its cost for one token, in parameters, multiply-adds and bytes."""

    parameters: int
    active: int  # parameters that the token passes through
    multiply_adds: int
    weight_bytes_read: int
    cache_bytes_kept: int
    cache_bytes_read: int


def layer_cost(part: "Part", context: int, dtype: str) -> Cost:
    """Return the cost of a part in one of its layers, for a token with `context` earlier tokens.

    Args:
        part: a part of the model.
        context: number of tokens before the token.
        dtype: stored dtype of the weights, one of `Parts.dtypes`.
    """
    width = CACHE_BYTES.get(dtype, 2)
    return Cost(
        part.parameters, part.active, part.multiply_adds(context), part.weight_bytes(dtype), width * part.cache_values,
        width * part.cache_reads(context),
    )  # fmt: skip


def part_cost(part: "Part", context: int, dtype: str) -> Cost:
    """Return the cost of a part, summed over all its layers; see `layer_cost`."""
    return Cost(*(part.times * number for number in dataclasses.astuple(layer_cost(part, context, dtype))))


def model_cost(parts: "Parts", context: int, dtype: str) -> Cost:
    """Return the cost of a model without its multi-token-prediction layer; see `layer_cost`."""
    costs = [dataclasses.astuple(part_cost(part, context, dtype)) for part in parts.main]
    return Cost(*(sum(numbers) for numbers in zip(*costs, strict=True)))


def added_parts(before: "Parts", after: "Parts") -> list["Part"]:
    """Return the parts of the model `after` that the model `before` lacks."""
    known = {part.key for part in before.all}
    return [part for part in after.all if part.key not in known]


def attention_work(parts: "Parts", context: int, kinds: Collection[str] = CONTEXT_KINDS) -> int:
    """Return the multiply-adds of attention and indexers in all layers for one token after `context` earlier tokens."""
    return sum(part.times * part.multiply_adds(context) for part in parts.main if part.kind in kinds)


def cache_bytes(parts: "Parts", context: int) -> int:
    """Return the bytes of a model's cache after `context` tokens, in bfloat16."""
    return 2 * sum(part.times * part.cache_size(context) for part in parts.main)


def window_bytes(parts: "Parts") -> int:
    """Return the bytes, in bfloat16, of the part of a model's cache that has a fixed length: full sliding windows."""
    windows = [(part.times, read) for part in parts.main for read in part.reads if read.is_window]
    return 2 * sum(times * read.values * (read.most or 0) for times, read in windows)


def work_by_context(before: "Parts", after: "Parts", contexts: Sequence[int]) -> xr.DataArray:
    """Return `attention_work` of V3, of V3.2 and of V3.2's indexers alone, at each context, [model, context]."""
    rows = {
        "V3": [attention_work(before, context) for context in contexts],
        "V3.2": [attention_work(after, context) for context in contexts],
        "V3.2, indexers alone": [attention_work(after, context, ("indexer",)) for context in contexts],
    }
    return _by_context(rows, contexts)


def work_of_models(models: "Mapping[str, Parts]", contexts: Sequence[int]) -> xr.DataArray:
    """Return `attention_work` of each model at each context, [model, context]; NaN beyond the model's context."""
    return _of_models(models, contexts, attention_work)


def cache_of_models(models: "Mapping[str, Parts]", contexts: Sequence[int]) -> xr.DataArray:
    """Return `cache_bytes` of each model at each context, [model, context]; NaN beyond the model's context."""
    return _of_models(models, contexts, cache_bytes)


def _of_models(
    models: "Mapping[str, Parts]", contexts: Sequence[int], cost: "Callable[[Parts, int], int]"
) -> xr.DataArray:
    rows = {
        name: [cost(parts, at) if at <= parts.config.max_positions else np.nan for at in contexts]
        for name, parts in models.items()
    }
    return _by_context(rows, contexts)


def _by_context(rows: Mapping[str, Sequence[float]], contexts: Sequence[int]) -> xr.DataArray:
    coords = {"model": list(rows), "context": list(contexts)}
    return xr.DataArray(np.array(list(rows.values()), float), dims=("model", "context"), coords=coords)
