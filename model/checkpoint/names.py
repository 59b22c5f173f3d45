"""The published tensor names of a checkpoint of the DeepSeek-V3 family, and the parameter that each tensor fills.

No other file has these names. Published checkpoints have one tensor per expert and projection. This project stacks the
experts of a layer, and joins the gate and up projections, gate rows first. A `Slot` maps one published tensor to a
parameter or to a part of a parameter. Loading, saving, the check for missing tensors and parameter counts all use the
list of slots of a configuration.

Source: the released checkpoint's tensor names; DeepSeek-V3 report (arXiv 2412.19437), section 2.
"""

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from model.network.config import ModelConfig

if TYPE_CHECKING:
    from torch import Tensor

_BIAS = "e_score_correction_bias"
_SCALE_SUFFIX = "_scale_inv"
_LAYER = re.compile(r"model\.layers\.(\d{1,9})\.(.+)")  # a longer number is not a layer
_ROUTED_IN_NAME = re.compile(r"\.experts\.\d+\.")
_ROUTED = re.compile(r"mlp\.experts\.(\d{1,9})\.(.+)")
ROUTER_KIND, BIAS_KIND, EXPERT_KIND = "router", "bias", "expert"  # values of `Place.kind`
ROUTER, ROUTER_BIAS = "mlp.gate.weight", f"mlp.gate.{_BIAS}"  # values of `Place.part`
EMBEDDING, FINAL_NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
EXPERT_PROJECTIONS = ("gate_proj.weight", "up_proj.weight", "down_proj.weight")  # values of `Place.part`
# Parts that only a multi-token-prediction layer has.
MTP_PARTS = ("eh_proj.weight", "enorm.weight", "hnorm.weight", "shared_head.norm.weight", "shared_head.head.weight")
FULL_QUERY = "self_attn.q_proj.weight"
# Published configuration key -> the part of a layer (or whole name) whose shape states it, and the axis.
STATED_BY: dict[str, tuple[str, int]] = {
    "vocab_size": (EMBEDDING, 0),
    "hidden_size": (EMBEDDING, 1),
    "n_routed_experts": (ROUTER, 0),
    "intermediate_size": ("mlp.gate_proj.weight", 0),
    "q_lora_rank": ("self_attn.q_a_proj.weight", 0),
    "kv_lora_rank": ("self_attn.kv_a_layernorm.weight", 0),
    "moe_intermediate_size": ("gate_proj.weight", 0),
    "n_shared_experts": ("mlp.shared_experts.gate_proj.weight", 0),
    "num_attention_heads": ("self_attn.o_proj.weight", 1),
    "index_n_heads": ("self_attn.indexer.weights_proj.weight", 0),
    "index_head_dim": ("self_attn.indexer.k_norm.weight", 0),
}
# Tensors of quantised checkpoints that are no weights: scales, zero points, packed integers, shapes.
_QUANTISED = re.compile(
    r".*(?:_scale(?:_inv|_\d+)?|\.scales?|_zero_points?|_packed|_shape|_global_scale|\.qweight|\.qzeros|\.g_idx"
    r"|absmax|\.(?:nested_)?quant_map|\.quant_state\..+|\.SCB)"
)
# Beginning of a published name, without the prefix of its layer -> the kind of part; the first match decides.
_KINDS = {
    "model.embed_tokens.": "embedding",
    "input_layernorm.": "attention_norm",
    "self_attn.indexer.": "indexer",
    "self_attn.": "attention",
    "post_attention_layernorm.": "ffn_norm",
    "mlp.gate.": "gate",
    "mlp.experts.": "experts",
    "mlp.shared_experts.": "shared",
    "mlp.": "ffn",
    "enorm.": "mtp",
    "hnorm.": "mtp",
    "eh_proj.": "mtp",
    "shared_head.": "mtp",
    "model.norm.": "final_norm",
    "lm_head.": "head",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Slot:
    """The parameter of our model, or the part of a parameter, that one published tensor fills."""

    published: str
    shape: tuple[int, ...]
    parameter: str
    expert: int | None = None  # index on the parameter's first axis; None: no axis of experts
    rows: tuple[int, int] | None = None  # half-open range on the next axis; None: all rows

    @property
    def num_elements(self) -> int:
        """Number of values in the tensor."""
        return math.prod(self.shape)

    @property
    def layer(self) -> int | None:
        """Published layer number, None outside the layers; the multi-token-prediction layer has the highest number."""
        return place_of(self.published).layer

    @property
    def kind(self) -> str:
        """The kind of part that the tensor belongs to, such as `attention` or `experts`."""
        in_layer = _LAYER.fullmatch(self.published)
        name = in_layer[2] if in_layer else self.published
        return next(kind for beginning, kind in _KINDS.items() if name.startswith(beginning))

    @property
    def pattern(self) -> str:
        """The published name with `{layer}` and `{expert}` in place of their numbers."""
        name = _LAYER.sub(r"model.layers.{layer}.\2", self.published)
        return name if self.expert is None else _ROUTED_IN_NAME.sub(".experts.{expert}.", name)

    @property
    def is_expert_bias(self) -> bool:
        """Whether this is the router's selection bias, which is fp32 in every file and model."""
        return self.published.endswith(_BIAS)

    def part_of(self, parameter: "Tensor") -> "Tensor":
        """Return the view of our parameter that this tensor fills."""
        part = parameter if self.expert is None else parameter[self.expert]
        return part if self.rows is None else part[slice(*self.rows)]


def slots(config: ModelConfig) -> Iterator[Slot]:
    """Yield the slot of every tensor of a checkpoint of this configuration, except the multi-token-prediction layer."""
    table = (config.vocab_size, config.hidden_size)
    yield Slot(EMBEDDING, table, "embedding.weight")
    for layer in range(config.num_layers):
        yield from _block_slots(config, layer, f"blocks.{layer}")
    yield Slot(FINAL_NORM, (config.hidden_size,), "norm.weight")
    if not config.tie_embeddings:
        yield Slot(HEAD, table, "head.weight")


def mtp_slots(config: ModelConfig) -> Iterator[Slot]:
    """Yield the slot of every tensor of a multi-token-prediction layer, even if the configuration has no such layer.

    Checkpoints also hold copies of embedding and head in this layer (`mtp_copies`); our model uses its own tensors.
    """
    theirs, hidden = mtp_prefix(config).removesuffix("."), config.hidden_size
    yield Slot(f"{theirs}.enorm.weight", (hidden,), "mtp.embedding_norm.weight")
    yield Slot(f"{theirs}.hnorm.weight", (hidden,), "mtp.hidden_norm.weight")
    yield Slot(f"{theirs}.eh_proj.weight", (hidden, 2 * hidden), "mtp.join.weight")
    yield from _block_slots(config, config.num_layers, "mtp.block")
    yield Slot(f"{theirs}.shared_head.norm.weight", (hidden,), "mtp.norm.weight")


def mtp_copies(config: ModelConfig) -> tuple[str, str]:
    """Return the names of the copies of embedding and head in a checkpoint's multi-token-prediction layer."""
    return f"{mtp_prefix(config)}embed_tokens.weight", f"{mtp_prefix(config)}shared_head.head.weight"


def used_slots(config: ModelConfig) -> Iterator[Slot]:
    """Yield the slot of every tensor of a model of this configuration, the multi-token-prediction layer last."""
    yield from slots(config)
    if config.has_mtp:
        yield from mtp_slots(config)


def _block_slots(config: ModelConfig, layer: int, ours: str) -> Iterator[Slot]:
    theirs, hidden = f"model.layers.{layer}", config.hidden_size
    yield Slot(f"{theirs}.input_layernorm.weight", (hidden,), f"{ours}.attention_norm.weight")
    yield from _attention_slots(config, f"{theirs}.self_attn", f"{ours}.attention")
    if config.has_indexer(layer):
        yield from _indexer_slots(config, f"{theirs}.self_attn.indexer", f"{ours}.attention.indexer")
    yield Slot(f"{theirs}.post_attention_layernorm.weight", (hidden,), f"{ours}.ffn_norm.weight")
    if layer < config.num_dense_layers:
        yield from _feed_forward_slots(f"{theirs}.mlp", f"{ours}.ffn", hidden, config.dense_width)
    else:
        yield from _mixture_slots(config, f"{theirs}.mlp", f"{ours}.ffn")


def _attention_slots(config: ModelConfig, theirs: str, ours: str) -> Iterator[Slot]:
    hidden, query_rank, latent = config.hidden_size, config.q_lora_rank, config.kv_lora_rank
    query_width = config.num_heads * config.query_head_dim
    value_width = config.num_heads * config.value_head_dim
    biased = [("kv_a_proj_with_mqa", "kv_down", latent + config.rope_head_dim, hidden)]
    biased.append(("o_proj", "output", hidden, value_width))
    plain = [("kv_b_proj", "kv_up", config.num_heads * config.nope_head_dim + value_width, latent)]
    norms = [("kv_a_layernorm", "kv_norm", latent)]
    if query_rank is None:
        plain.append(("q_proj", "query", query_width, hidden))
    else:
        biased.append(("q_a_proj", "query_down", query_rank, hidden))
        norms.append(("q_a_layernorm", "query_norm", query_rank))
        plain.append(("q_b_proj", "query_up", query_width, query_rank))
    for their_name, our_name, rows, columns in biased + plain:
        yield Slot(f"{theirs}.{their_name}.weight", (rows, columns), f"{ours}.{our_name}.weight")
    for their_name, our_name, width in norms:
        yield Slot(f"{theirs}.{their_name}.weight", (width,), f"{ours}.{our_name}.weight")
    if config.attention_bias:
        for their_name, our_name, rows, _ in biased:
            yield Slot(f"{theirs}.{their_name}.bias", (rows,), f"{ours}.{our_name}.bias")


def _indexer_slots(config: ModelConfig, theirs: str, ours: str) -> Iterator[Slot]:
    hidden, heads, width = config.hidden_size, config.index_heads, config.index_head_dim
    assert config.q_lora_rank is not None  # checked by the configuration
    yield Slot(f"{theirs}.wq_b.weight", (heads * width, config.q_lora_rank), f"{ours}.query.weight")
    yield Slot(f"{theirs}.wk.weight", (width, hidden), f"{ours}.key.weight")
    yield Slot(f"{theirs}.k_norm.weight", (width,), f"{ours}.key_norm.weight")
    yield Slot(f"{theirs}.k_norm.bias", (width,), f"{ours}.key_norm.bias")
    yield Slot(f"{theirs}.weights_proj.weight", (heads, hidden), f"{ours}.head_weights.weight")


def _mixture_slots(config: ModelConfig, theirs: str, ours: str) -> Iterator[Slot]:
    experts, hidden, width = config.num_experts, config.hidden_size, config.expert_width
    yield Slot(f"{theirs}.gate.weight", (experts, hidden), f"{ours}.router.weight")
    if config.has_selection_bias:
        yield Slot(f"{theirs}.gate.{_BIAS}", (experts,), f"{ours}.router.expert_bias")
    for expert in range(experts):
        stacked = (f"{ours}.experts.gate_up", f"{ours}.experts.down")
        yield from _swiglu_slots(f"{theirs}.experts.{expert}", stacked, hidden, width, expert)
    if config.num_shared_experts:
        shared_width = config.num_shared_experts * width
        yield from _feed_forward_slots(f"{theirs}.shared_experts", f"{ours}.shared", hidden, shared_width)


def _feed_forward_slots(theirs: str, ours: str, hidden: int, width: int) -> Iterator[Slot]:
    return _swiglu_slots(theirs, (f"{ours}.gate_up.weight", f"{ours}.down.weight"), hidden, width, None)


def _swiglu_slots(theirs: str, ours: tuple[str, str], hidden: int, width: int, expert: int | None) -> Iterator[Slot]:
    gate_up, down = ours
    yield Slot(f"{theirs}.gate_proj.weight", (width, hidden), gate_up, expert, (0, width))
    yield Slot(f"{theirs}.up_proj.weight", (width, hidden), gate_up, expert, (width, 2 * width))
    yield Slot(f"{theirs}.down_proj.weight", (hidden, width), down, expert)


def mtp_prefix(config: ModelConfig) -> str:
    """Return the prefix of names in the multi-token-prediction layer, which is numbered after the other layers."""
    return f"model.layers.{config.num_layers}."


def router_bias_name(layer: int) -> str:
    """Return the published name of the selection bias of a layer's router."""
    return f"model.layers.{layer}.{ROUTER_BIAS}"


def scaled_weight(name: str) -> str | None:
    """Return the name of the FP8 weight whose block scales the tensor `name` holds; None if it holds no scales."""
    return name.removesuffix(_SCALE_SUFFIX) if name.endswith(_SCALE_SUFFIX) else None


def is_quantisation(name: str) -> bool:
    """Whether a tensor of a quantised checkpoint holds scales, zero points or packed integers instead of weights.

    >>> [is_quantisation(f"mlp.up_proj.{end}") for end in ("weight", "weight_scale", "weight_packed", "qzeros")]
    [False, True, True, True]
    """
    return _QUANTISED.fullmatch(name) is not None


def weight_of_scale(name: str) -> str | None:
    """Return the name of the weight that a tensor of scales belongs to; None if the tensor holds no scales.

    All published spellings of the names of scales are known.

    >>> [weight_of_scale(f"lm_head.weight{end}") for end in ("_scale_inv", "_scale", "")]
    ['lm_head.weight', 'lm_head.weight', None]
    """
    return name.rpartition("_scale")[0] if re.fullmatch(r".*weight_scale(?:_inv|_\d+)?", name) else None


def scale_name(weight: str) -> str:
    """Return the name of the tensor with the block scales of an FP8 weight."""
    return weight + _SCALE_SUFFIX


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """The place of a stored tensor in its model.

    Attributes:
        layer: model layer number; None outside the layers.
        expert: number of a routed expert; None for other tensors, and for the experts of a layer in one tensor.
        part: the rest of the name, for example `self_attn.o_proj.weight`, or `gate_proj.weight` in an expert.
        kind: `ROUTER_KIND` (one row per expert), `BIAS_KIND` (selection bias), `EXPERT_KIND` (matrices of routed
            experts), or an empty string.
        stacked: number of experts that the tensor holds along its first axis; 0 for the tensor of one expert.
    """

    layer: int | None
    expert: int | None
    part: str
    kind: str = ""
    stacked: int = 0


def place_of(name: str) -> Place:
    """Return the place that a published name states, without a configuration to check it against.

    >>> place = place_of("model.layers.3.mlp.experts.17.up_proj.weight")
    >>> place.layer, place.expert, place.part, place.kind
    (3, 17, 'up_proj.weight', 'expert')
    """
    in_layer = _LAYER.fullmatch(name)
    if in_layer is None:
        return Place(None, None, name)
    routed = _ROUTED.fullmatch(in_layer[2])
    if routed is None:
        kind = {ROUTER: ROUTER_KIND, ROUTER_BIAS: BIAS_KIND}.get(in_layer[2], "")
        return Place(int(in_layer[1]), None, in_layer[2], kind)
    return Place(int(in_layer[1]), int(routed[1]), routed[2], EXPERT_KIND if routed[2] in EXPERT_PROJECTIONS else "")
