"""Convert a model's parts, and the numbers of a run to paint on them, to the form that `viz` draws."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from model.trace import metrics
from model.trace.observed_rule import rule_of
from model.trace.trace import Trace
from viz.architecture_layout import Box, Model, Stack
from viz.architecture_paint import Paint

if TYPE_CHECKING:
    from model.checkpoint.parts import Block, Part, Parts

SHORT = {
    "embedding": "Embedding",
    "attention_mix": "Mix",
    "attention_norm": "Norm",
    "attention": "Attention",
    "indexer": "Indexer",
    "ffn_mix": "Mix",
    "ffn_norm": "Norm",
    "ffn": "Feed-forward",
    "gate": "Router",
    "experts": "Experts",
    "shared": "Shared",
    "final_mix": "Join",
    "final_norm": "Norm",
    "head": "Head",
    "mtp": "Multi-token prediction",
}
# Name of a block, without its number -> the kind of its layers.
SORTS = {
    "dense": "dense",
    "moe": "mixture of experts",
    "window": "window",
    "csa": "CSA",
    "hca": "HCA",
    "window_hash": "window, routed by token id",
    "csa_hash": "CSA, routed by token id",
    "hca_hash": "HCA, routed by token id",
}


def count(number: float) -> str:
    """Return a number with three significant digits; k, M, B and T stand for thousand, million, billion, trillion.

    >>> count(671_026_419_200), count(7168), count(512), count(0)
    ('671 B', '7.17 k', '512', '0')
    """
    for limit, letter in ((1e12, " T"), (1e9, " B"), (1e6, " M"), (1e3, " k")):
        if number >= 0.9995 * limit:
            scaled = number / limit
            return f"{scaled:.{max(0, 2 - len(str(int(scaled))) + 1)}f}{letter}"
    return f"{number:.3g}"


def layers(numbers: Collection[int]) -> str:
    """Return model layer numbers as text, consecutive ones as a range.

    >>> layers((3, 4, 5)), layers((0,)), layers((2, 4, 6))
    ('layers 3 to 5', 'layer 0', 'layers 2, 4, 6')
    """
    ordered = sorted(numbers)
    if len(ordered) == 1:
        return f"layer {ordered[0]}"
    if ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"layers {ordered[0]} to {ordered[-1]}"
    names = [str(number) for number in ordered]
    return f"layers {', '.join(names if len(names) < 7 else [*names[:4], '…', names[-1]])}"


def drawing(parts: "Parts", added: Collection[str] = ()) -> Model:
    """Return the drawing of a model; parts whose keys are in `added` are outlined."""
    boxes = {part.key: _box(part, parts, part.key in added) for part in parts.all}
    return Model(
        embedding=boxes["embedding"],
        stacks=tuple(_stack(block, boxes) for block in parts.blocks),
        final_norm=boxes["final_norm"],
        head=boxes["head"],
        mtp=boxes.get("mtp"),
        router=parts.config,
        join=boxes.get("final_mix"),
        streams=getattr(parts.config, "num_streams", 1),
    )


def _stack(block: "Block", boxes: dict[str, Box]) -> Stack:
    sort = SORTS[block.name.rstrip("0123456789")]
    label = f"<b>{len(block.layers)} ×</b> {sort}, {layers(block.layers)}"
    return Stack(block.name, label, block.layers, tuple(boxes[part.key] for part in block.parts))


def _box(part: "Part", parts: "Parts", added: bool) -> Box:
    return Box(part.key, part.kind, SHORT[part.kind], _detail(part, parts), _hover(part), added)


def _detail(part: "Part", parts: "Parts") -> str:
    config = parts.config
    if part.kind.endswith("_mix"):
        return ""
    if part.kind == "attention" and part.variant in SORTS:
        return f"{SORTS[part.variant]}, {count(part.parameters)}"
    if part.kind == "gate" and part.variant == "hash":
        return f"{config.top_k} of {config.num_experts} by token id"
    if part.kind == "experts":
        return f"{config.num_experts} × {count(part.parameters / config.num_experts)}, {config.top_k} per token"
    if part.kind == "gate" and config.num_groups > 1:
        return f"{config.num_kept_groups} of {config.num_groups} groups, top {config.top_k}"
    if part.kind == "gate":
        return f"top {config.top_k} of {config.num_experts}"
    if part.kind == "head" and not part.parameters:
        return "the embedding's table"
    return count(part.parameters)


def _hover(part: "Part") -> str:
    where = f"{layers(part.layers)}<br>" if part.layers else ""
    each = " in each layer" if part.times > 1 else ""
    return f"{where}{part.parameters:,} parameters{each}"


def paint(trace: Trace, layer: int | None, recall: float | None = None) -> Paint:
    """Return the data of a run to paint: the load of one MoE layer and every layer's residual norm, where recorded.

    Args:
        trace: trace of the run.
        layer: model layer number of the painted layer; None: no load is painted.
        recall: recall of the indexer in this layer; None: not painted.
    """
    load = groups = None
    if layer is not None and trace.has("expert_id") and layer in trace.data["moe_layer"].values:
        rule = rule_of(trace)
        counts = metrics.tokens_per_expert(trace.data["expert_id"], rule.num_experts)
        load = metrics.relative_load(counts).sel(moe_layer=layer)
        by_group = metrics.tokens_per_group(counts, rule.num_groups)
        groups = metrics.relative_load(by_group, "group").sel(moe_layer=layer)
    norm = metrics.typical_norm(trace.data["residual_norm"]) if trace.has("residual_norm") else None
    return Paint(layer, load, groups, norm, recall)
