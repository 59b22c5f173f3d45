"""The tables of a model's parts: tensors, sizes, and cost for one token."""

import dataclasses
import os.path
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from model.checkpoint import costs
from pages.learn.architecture.drawing import SHORT, layers

if TYPE_CHECKING:
    from model.checkpoint.parts import Part, Parts

# Field of `costs.Cost` -> name of its column.
_NAMES = {
    "parameters": "parameters",
    "active": "active",
    "multiply_adds": "multiply-adds",
    "weight_bytes_read": "weight bytes read",
    "cache_bytes_kept": "cache bytes kept",
    "cache_bytes_read": "cache bytes read",
}
# Kind of a part -> its name in tables, where its name in the figure does not say its place.
_PLACES = {
    "attention_norm": "Attention norm", "ffn_norm": "Feed-forward norm", "final_norm": "Final norm",
    "attention_mix": "Attention mix", "ffn_mix": "Feed-forward mix", "final_mix": "Join of streams",
}  # fmt: skip
# Kind of a part -> its row where parts are summed by kind; other kinds have their short names.
_KINDS = {
    "attention_norm": "Norms", "ffn_norm": "Norms", "final_norm": "Norms", "attention_mix": "Mixes of streams",
    "ffn_mix": "Mixes of streams", "final_mix": "Mixes of streams", "ffn": "Dense feed-forward",
}  # fmt: skip


def _named(cost: costs.Cost) -> dict[str, int]:
    return {_NAMES[field]: number for field, number in dataclasses.asdict(cost).items()}


def title(part: "Part") -> str:
    """Return the name of a part followed by its layers; no other part of the model has this name."""
    name = _PLACES.get(part.kind, SHORT[part.kind])
    return f"{name}, {layers(part.layers)}" if part.layers else name


def sizes(part: "Part", context: int, dtype: str) -> pd.DataFrame:
    """Return a table of the cost of a part for one token: in one of its layers, and in all of them."""
    of_layer = _named(costs.layer_cost(part, context, dtype))
    of_all = _named(costs.part_cost(part, context, dtype))
    table = pd.DataFrame({"for one token": list(of_layer), "a layer": list(of_layer.values())})
    if part.times == 1:
        return table.rename(columns={"a layer": "in all"})
    return table.assign(**{f"all {part.times}": list(of_all.values())})


def tensors(part: "Part") -> tuple[str, pd.DataFrame]:
    """Return the common prefix of a part's published tensor names, and a table with a row per tensor.

    The table names a tensor by the rest of its name.
    """
    names = [tensor.name for tensor in part.tensors]
    # In a name with more than two pieces, the last two name the tensor, and the pieces before them its module.
    places = [name.rsplit(".", 2)[0] + "." if name.count(".") > 1 else "" for name in names]
    common = os.path.commonprefix(places).rpartition(".")
    prefix = common[0] + common[1]
    table = pd.DataFrame(
        {
            "tensor": [name.removeprefix(prefix) for name in names],
            "shape": [
                "\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}".join(f"{size:,}" for size in tensor.shape)
                for tensor in part.tensors
            ],
            "in a layer": [tensor.count for tensor in part.tensors],
            "parameters": [tensor.count * tensor.num_elements for tensor in part.tensors],
        }
    )
    return prefix, table


def everything(parts: "Parts", context: int, dtype: str) -> pd.DataFrame:
    """Return a table with a row per part, summed over its layers.

    The last row is the sum of all parts but multi-token prediction.
    """
    rows = [
        {"part": title(part), "times": part.times} | _named(costs.part_cost(part, context, dtype)) for part in parts.all
    ]
    total = {"part": "the model", "times": 1} | _named(costs.model_cost(parts, context, dtype))
    return pd.DataFrame([*rows, total])


def side_by_side(before: "Parts", after: "Parts", context: int) -> pd.DataFrame:
    """Return a table with a row per part of either model: parameters and multiply-adds in both, over all its layers."""
    old, new = ({part.key: part for part in parts.all} for parts in (before, after))
    rows = []
    for key in [part.key for part in after.all] + [key for key in old if key not in new]:
        own = [
            None if part is None else costs.part_cost(part, context, "bfloat16")
            for part in (old.get(key), new.get(key))
        ]
        was, now = (0 if cost is None else cost.parameters for cost in own)
        work = (0 if cost is None else cost.multiply_adds for cost in own)
        rows.append((title(new.get(key) or old[key]), was, now, now - was, *work))
    columns = ["part", "parameters, V3", "V3.2", "added", "multiply-adds, V3", "in V3.2"]
    return pd.DataFrame(rows, columns=columns)


def by_kind(models: "Mapping[str, Parts]") -> pd.DataFrame:
    """Return a table with a row per kind of part: parameters of each model, over all its layers."""
    rows: dict[str, dict[str, int]] = {}
    for name, parts in models.items():
        for part in parts.all:
            row = rows.setdefault(_KINDS.get(part.kind, SHORT[part.kind]), dict.fromkeys(models, 0))
            row[name] += part.times * part.parameters
    return pd.DataFrame([{"part": kind, **row} for kind, row in rows.items()])
