"""Sizes of a model's parts and their cost for one token, summed over layers from `parts.py`. Without torch.

Operations are multiply-adds of matrix products for one token that is generated after others, with the absorbed form of
attention; see `parts.py` for what they count.
"""

import dataclasses
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from model.checkpoint.parts import Part, Parts

CONTEXT_KINDS = ("attention", "indexer")  # the parts whose work grows with the context
CACHE_BYTES = {"float32": 4}  # bytes of a number in the cache; 2 where the weights are narrower


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """Size, and cost for one token: numbers of parameters, multiply-adds or bytes."""

    parameters: int
    active: int  # parameters that the token passes through
    multiply_adds: int
    weight_bytes_read: int
    cache_bytes_kept: int
    cache_bytes_read: int


def layer_cost(part: "Part", context: int, dtype: str) -> Cost:
    """Return the cost of a part in one of its layers, for a token with `context` earlier tokens.

    Args:
        part: of the model.
        context: earlier tokens that the token can see.
        dtype: how weights are stored, a name of `parts.dtypes()`.
    """
    width = CACHE_BYTES.get(dtype, 2)
    return Cost(
        part.parameters, part.active, part.multiply_adds(context), part.weight_bytes(dtype), width * part.cache_values,
        width * part.cache_reads(context),
    )  # fmt: skip


def part_cost(part: "Part", context: int, dtype: str) -> Cost:
    """Return the cost of a part over all its layers."""
    return Cost(*(part.times * number for number in dataclasses.astuple(layer_cost(part, context, dtype))))


def model_cost(parts: "Parts", context: int, dtype: str) -> Cost:
    """Return the cost of a model, without its multi-token prediction."""
    costs = [dataclasses.astuple(part_cost(part, context, dtype)) for part in parts.main]
    return Cost(*(sum(numbers) for numbers in zip(*costs, strict=True)))


def added_parts(before: "Parts", after: "Parts") -> list["Part"]:
    """Return the parts that only the later model has."""
    known = {part.key for part in before.all}
    return [part for part in after.all if part.key not in known]


def attention_work(parts: "Parts", context: int, kinds: Collection[str] = CONTEXT_KINDS) -> int:
    """Return the multiply-adds of attention and indexer in all layers, for a token with `context` earlier tokens."""
    return sum(part.times * part.multiply_adds(context) for part in parts.main if part.kind in kinds)


def work_by_context(before: "Parts", after: "Parts", contexts: Sequence[int]) -> xr.DataArray:
    """Return `attention_work` of V3 and V3.2 at every context, and of V3.2's indexers alone, [model, context]."""
    rows = {
        "V3": [attention_work(before, context) for context in contexts],
        "V3.2": [attention_work(after, context) for context in contexts],
        "V3.2, indexers alone": [attention_work(after, context, ("indexer",)) for context in contexts],
    }
    coords = {"model": list(rows), "context": list(contexts)}
    return xr.DataArray(np.array(list(rows.values()), float), dims=("model", "context"), coords=coords)
