"""What a model's parts hold and cost, as tables."""

import os.path
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from pages.learn.architecture.drawing import SHORT, count, layers

if TYPE_CHECKING:
    from model.checkpoint.parts import Part, Parts

INDEX_KINDS = ("attention", "indexer")  # the parts whose work grows with the context
CACHE_BYTES = {"float32": 4}  # of a number in the cache; two where the weights are narrower


def title(part: "Part") -> str:
    """A part among the others of its model: what it is, and in which layers."""
    return f"{SHORT[part.kind]}, {layers(part.layers)}" if part.layers else SHORT[part.kind]


def sizes(part: "Part", context: int, dtype: str) -> pd.DataFrame:
    """What a part holds and what it does for one token, in one of its layers and in all of them."""
    width = CACHE_BYTES.get(dtype, 2)
    of_one = {
        "parameters": part.parameters,
        "active": part.active,
        "multiply-adds": part.multiply_adds(context),
        "weight bytes read": part.weight_bytes(dtype),
        "cache bytes kept": width * part.cache_values,
        "cache bytes read": width * part.cache_reads(context),
    }
    table = {"for one token": list(of_one), "a layer": [f"{number:,}" for number in of_one.values()]}
    if part.times == 1:
        return pd.DataFrame({"for one token": table["for one token"], "in all": table["a layer"]})
    return pd.DataFrame(table | {f"all {part.times}": [count(number * part.times) for number in of_one.values()]})


def tensors(part: "Part") -> tuple[str, pd.DataFrame]:
    """A part's tensors by their published names: what all these begin with, and a row for each with the rest."""
    names = [tensor.name for tensor in part.tensors]
    # So long as a name has more than two pieces, the first ones say where it is and the last two what it is.
    homes = [name.rsplit(".", 2)[0] + "." if name.count(".") > 1 else "" for name in names]
    common = os.path.commonprefix(homes).rpartition(".")
    beginning = common[0] + common[1]
    table = pd.DataFrame(
        {
            "tensor": [name.removeprefix(beginning) for name in names],
            "shape": [" × ".join(f"{size:,}" for size in tensor.shape) for tensor in part.tensors],
            "in a layer": [tensor.count for tensor in part.tensors],
            "parameters": [tensor.count * tensor.num_elements for tensor in part.tensors],
        }
    )
    return beginning, table


def everything(parts: "Parts", context: int, dtype: str) -> pd.DataFrame:
    """One row per part, over all its layers, and the model in the last row; multi-token prediction is not in that."""
    rows = [_row(part, context, dtype) for part in parts.all]
    table = pd.DataFrame(rows)
    main = table.iloc[: len(parts.main)]
    total = main.sum(numeric_only=True).to_dict() | {"part": "the model", "times": 1}
    return pd.concat([table, pd.DataFrame([total])], ignore_index=True)


def _row(part: "Part", context: int, dtype: str) -> dict[str, object]:
    return {
        "part": title(part),
        "times": part.times,
        "parameters": part.times * part.parameters,
        "active": part.times * part.active,
        "multiply-adds": part.times * part.multiply_adds(context),
        "weight bytes read": part.times * part.weight_bytes(dtype),
        "cache bytes kept": part.times * CACHE_BYTES.get(dtype, 2) * part.cache_values,
        "cache bytes read": part.times * CACHE_BYTES.get(dtype, 2) * part.cache_reads(context),
    }


def added(before: "Parts", after: "Parts") -> list[str]:
    """Keys of the parts that only the later model has."""
    known = {part.key for part in before.all}
    return [part.key for part in after.all if part.key not in known]


def side_by_side(before: "Parts", after: "Parts", context: int) -> pd.DataFrame:
    """A row per part of either model, over all its layers: parameters and work, before and after."""
    old, new = ({part.key: part for part in parts.all} for parts in (before, after))
    rows = []
    for key in [part.key for part in after.all] + [key for key in old if key not in new]:
        one, two = old.get(key), new.get(key)
        was, now = _held(one, context), _held(two, context)
        rows.append((title(two or one), was[0], now[0], now[0] - was[0], was[1], now[1]))  # type: ignore[arg-type]
    columns = ["part", "parameters, V3", "V3.2", "added", "multiply-adds, V3", "in V3.2"]
    return pd.DataFrame(rows, columns=columns)


def _held(part: "Part | None", context: int) -> tuple[int, int]:
    return (0, 0) if part is None else (part.times * part.parameters, part.times * part.multiply_adds(context))


def attention_work(parts: "Parts", context: int, kinds: Collection[str] = INDEX_KINDS) -> int:
    """Multiply-adds of attention and indexer in all layers, for one token with so many others to look at."""
    return sum(part.times * part.multiply_adds(context) for part in parts.main if part.kind in kinds)


def work_by_context(before: "Parts", after: "Parts", contexts: Sequence[int]) -> xr.DataArray:
    """`attention_work` of two models at every context, and of the later one's indexers alone, [model, context]."""
    rows = {
        "V3": [attention_work(before, context) for context in contexts],
        "V3.2": [attention_work(after, context) for context in contexts],
        "V3.2, indexers alone": [attention_work(after, context, ("indexer",)) for context in contexts],
    }
    coords = {"model": list(rows), "context": list(contexts)}
    return xr.DataArray(np.array(list(rows.values()), float), dims=("model", "context"), coords=coords)
