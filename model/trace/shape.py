"""The shape of a trace's model, and what the run found out about the model's router.

A run of any model states both in the entries `shape` and `router` of `Trace.model`. A trace without them is of a model
with the configuration keys of DeepSeek-V3: then the recorded axes and these keys give the shape.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from model.trace.errors import TraceError
from model.trace.router_rule import RouterRule, scale_of

MOST_LAYERS = 1_000  # pages build lists of this length
MOST_HEADS = 10_000
MOST_EXPERTS = np.iinfo(np.int16).max + 1  # expert ids are int16
MOST_WIDTH = 1 << 24
_MOST_TEXT = 1_000  # characters of a path or note
LOGIT, PROBABILITY = "logit", "probability"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The axes of a model. None: the trace does not state it.

    Attributes:
        num_layers: number of decoder layers; the recorded ones if the trace does not state it.
        moe_layers: labels of the routing blocks. They are model layer numbers if each layer has at most one block;
            otherwise the blocks are counted from 0.
        blocks: path of each routing block in the model; empty if not stated.
        num_heads: number of attention heads of a layer.
        num_experts: number of columns of the router; with the columns from `idle_from` on.
        top_k: number of experts that a token selects without interventions.
        idle_from: first column that computes nothing: a token that selects it skips an expert.
        width: number of values of a hidden state.
        vocab_size: number of entries of the vocabulary.
    """

    num_layers: int
    moe_layers: tuple[int, ...] = ()
    blocks: tuple[str, ...] = ()
    num_heads: int | None = None
    num_experts: int | None = None
    top_k: int | None = None
    idle_from: int | None = None
    width: int | None = None
    vocab_size: int | None = None

    def layer_of(self, label: int) -> int:
        """Return the model layer number of a routing block: the first whole number in its path, else the label."""
        number = re.search("[0-9]{1,9}", dict(zip(self.moe_layers, self.blocks, strict=False)).get(label, ""))
        return int(number[0]) if number else label

    def block_name(self, label: int) -> str:
        """Return the label of a routing block, with its path if blocks are counted and the label is no layer number.

        >>> Shape(num_layers=1, moe_layers=(0, 1), blocks=("layers.0.mlp", "layers.0.self_attention")).block_name(1)
        '1: layers.0.self_attention'
        """
        paths = dict(zip(self.moe_layers, self.blocks, strict=False))
        counted = any(self.layer_of(known) != known for known in self.moe_layers)
        return f"{label}: {paths[label]}" if counted and label in paths else str(label)

    @classmethod
    def of_config(
        cls, config: Mapping[str, Any], sizes: Mapping[Any, int], moe_layers: tuple[int, ...] = ()
    ) -> "Shape":
        """Return the shape that recorded axes and a configuration with the keys of DeepSeek-V3 give.

        Args:
            config: the published configuration; may be empty.
            sizes: lengths of the recorded axes. They take precedence.
            moe_layers: labels of the recorded routing blocks.
        """
        recorded = _count(sizes.get("layer") or 1 + max(moe_layers, default=0), MOST_LAYERS) or 1
        return cls(
            num_layers=_count(config.get("num_hidden_layers"), MOST_LAYERS) or recorded,
            moe_layers=moe_layers,
            num_heads=_count(config.get("num_attention_heads"), MOST_HEADS),
            num_experts=sizes.get("expert") or _count(config.get("n_routed_experts"), MOST_EXPERTS),
            top_k=_count(config.get("num_experts_per_tok"), MOST_EXPERTS) or sizes.get("rank"),
            width=sizes.get("width") or _count(config.get("hidden_size"), MOST_WIDTH),
            vocab_size=sizes.get("vocab") or _count(config.get("vocab_size"), MOST_WIDTH),
        )

    @classmethod
    def from_json(cls, stated: object) -> "Shape":
        """Return the shape in the entry `shape` of `Trace.model`; it needs every field, and may hold more.

        Raises:
            TraceError: a field is missing or out of range, or the fields contradict each other.
        """
        fields = _fields(cls, stated, "shape")
        layers, blocks, idle_from = fields["moe_layers"], fields["blocks"], fields["idle_from"]
        bounds = {
            "num_layers": MOST_LAYERS, "num_experts": MOST_EXPERTS, "width": MOST_WIDTH, "vocab_size": MOST_WIDTH,
        }  # fmt: skip
        for name, most in bounds.items():
            if _count(fields[name], most) is None:
                raise _refusal("shape", name, fields[name])
        if fields["num_heads"] is not None and _count(fields["num_heads"], MOST_HEADS) is None:
            raise _refusal("shape", "num_heads", fields["num_heads"])
        if _count(fields["top_k"], fields["num_experts"]) is None:
            raise _refusal("shape", "top_k", fields["top_k"])
        if idle_from is not None and _count(idle_from, fields["num_experts"] - 1) is None:
            raise _refusal("shape", "idle_from", idle_from)
        if not _are_labels(layers, 2 * MOST_LAYERS):
            raise _refusal("shape", "moe_layers", layers)
        if not isinstance(blocks, list | tuple) or not all(map(_is_text, blocks)) or len(blocks) != len(layers):
            raise _refusal("shape", "blocks", blocks)
        return cls(**fields | {"moe_layers": tuple(layers), "blocks": tuple(blocks)})

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self) | {"moe_layers": list(self.moe_layers), "blocks": list(self.blocks)}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RouterFacts:
    """What a run found out about the router of its model.

    Attributes:
        rule: the rule that reproduces the recorded experts and weights; None: none is known.
        table_layers: labels of the blocks whose experts follow from the token id alone. No score decides there.
        logit_kind: what `router_logit` holds: logits, or probabilities that the router made of them.
        block_factor: factor that the block applies to the sum of its experts' outputs; None: unknown.
        note: a sentence on why no rule is known.
    """

    rule: RouterRule | None = None
    table_layers: tuple[int, ...] = ()
    logit_kind: str = LOGIT
    block_factor: float | None = None
    note: str | None = None

    @classmethod
    def from_json(cls, stated: object) -> "RouterFacts":
        """Return the facts in the entry `router` of `Trace.model`; it needs every field, and may hold more.

        Raises:
            TraceError: a field is missing or of another kind.
        """
        fields = _fields(cls, stated, "router")
        layers, factor, note = fields["table_layers"], fields["block_factor"], fields["note"]
        if not _are_labels(layers, 2 * MOST_LAYERS):
            raise _refusal("router", "table_layers", layers)
        if fields["logit_kind"] not in (LOGIT, PROBABILITY):
            raise _refusal("router", "logit_kind", fields["logit_kind"])
        if factor is not None and (isinstance(factor, bool) or scale_of(factor) is None):
            raise _refusal("router", "block_factor", factor)
        if not (note is None or _is_text(note)):
            raise _refusal("router", "note", note)
        rule = None if fields["rule"] is None else RouterRule.from_json(fields["rule"])
        return cls(**fields | {"rule": rule, "table_layers": tuple(layers)})

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        rule = None if self.rule is None else self.rule.to_json()
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return values | {"rule": rule, "table_layers": list(self.table_layers)}


def check(shape: Shape, router: RouterFacts, sizes: Mapping[Any, int], labels: Mapping[str, list[int]]) -> None:
    """Check that the stated shape and router agree with each other and with the recorded axes.

    Args:
        shape: the stated shape.
        router: the stated facts about the router.
        sizes: lengths of the recorded axes.
        labels: labels of the recorded axes.

    Raises:
        TraceError: they contradict each other.
    """
    stated = {
        "layer": ("num_layers", shape.num_layers), "expert": ("num_experts", shape.num_experts),
        "width": ("width", shape.width), "vocab": ("vocab_size", shape.vocab_size),
        "group": ("num_groups", router.rule.num_groups if router.rule else None),
    }  # fmt: skip
    for dim, (name, value) in stated.items():
        if dim in sizes and sizes[dim] != value:
            raise TraceError(f"the {dim} axis has {sizes[dim]} entries, the model's {name} is {value}")
    for name, layers in (("moe_layer axis", labels.get("moe_layer", [])), ("table_layers", router.table_layers)):
        if unknown := sorted(set(layers) - set(shape.moe_layers)):
            raise TraceError(f"{name} names the routing block {unknown[0]}, which the model's shape does not list")
    for dim in ("attention_layer", "indexer_layer"):
        if (last := max(labels.get(dim, []), default=0)) >= shape.num_layers:
            raise TraceError(f"the {dim} axis names layer {last} of a model with {shape.num_layers} layers")
    if router.rule and (router.rule.num_experts, router.rule.top_k) != (shape.num_experts, shape.top_k):
        raise TraceError(
            f"the router's rule selects {router.rule.top_k} of {router.rule.num_experts} experts, the model's shape "
            f"says {shape.top_k} of {shape.num_experts}"
        )


def _fields(kind: type, stated: object, entry: str) -> dict[str, Any]:
    """Return the stated values of a dataclass's fields."""
    names = [field.name for field in dataclasses.fields(kind)]
    if not isinstance(stated, Mapping):
        raise TraceError(f"the entry {entry} of the model must be a JSON object, not {stated!r:.40}")
    if missing := [name for name in names if name not in stated]:
        raise TraceError(f"the entry {entry} of the model lacks {', '.join(missing)}")
    return {name: stated[name] for name in names}


def _refusal(entry: str, name: str, value: object) -> TraceError:
    return TraceError(f"{name} in the entry {entry} of the model cannot be {value!r:.40}")


def _count(value: object, most: int) -> int | None:
    """Return a whole number from 1 to `most`; None for any other value."""
    return value if type(value) is int and 1 <= value <= most else None


def _are_labels(values: object, most: int) -> bool:
    """Return whether the values are ascending whole numbers from 0 to below `most`."""
    if not isinstance(values, list | tuple) or len(values) > most:
        return False
    return all(type(value) is int and 0 <= value < most for value in values) and list(values) == sorted(set(values))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _MOST_TEXT
