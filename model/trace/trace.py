"""A trace: everything that was recorded of one finished run, read-only.

The variables form an `xarray.Dataset` with named, labelled axes: layer 3 is selected as layer 3, although it is the
first MoE layer. A trace holds only recorded values; other modules of this package compute statistics from them. There
is no batch axis. `SCHEMA` is the only place that lists the variables.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from model.trace import shape
from model.trace.errors import TraceError
from model.trace.shape import RouterFacts, Shape

# Variable -> (axes in order, allowed dtypes). In a bfloat16 run, uint16 holds the bits of `layer_input`.
SCHEMA: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "token_id": (("token",), ("int32",)),
    "logprob": (("token",), ("float32",)),
    "candidate_id": (("token", "candidate"), ("int32",)),
    "candidate_logprob": (("token", "candidate"), ("float32",)),
    "embedding_norm": (("token",), ("float32",)),
    "attention_residual_norm": (("token", "layer"), ("float32",)),
    "residual_norm": (("token", "layer"), ("float32",)),
    "router_logit": (("token", "moe_layer", "expert"), ("float32",)),
    "router_score": (("token", "moe_layer", "expert"), ("float32",)),
    "expert_bias": (("moe_layer", "expert"), ("float32",)),
    "expert_factor": (("moe_layer", "expert"), ("float32",)),
    "group_score": (("token", "moe_layer", "group"), ("float32",)),
    "group_kept": (("token", "moe_layer", "group"), ("bool",)),
    "expert_id": (("token", "moe_layer", "rank"), ("int16",)),
    "gate_weight": (("token", "moe_layer", "rank"), ("float32",)),
    "rank_order": (("token", "moe_layer", "rank"), ("int16",)),
    "attention": (("attention_layer", "head", "query", "key"), ("float32",)),
    "indexer_score": (("indexer_layer", "query", "key"), ("float32",)),
    "indexer_kept": (("indexer_layer", "query", "key"), ("bool",)),
    "draft_id": (("token",), ("int32",)),
    "draft_logprob": (("token",), ("float32",)),
    "draft_tried": (("token",), ("bool",)),
    "draft_expert_id": (("token", "moe_layer", "rank"), ("int16",)),
    "layer_input": (("token", "layer", "width"), ("float32", "uint16")),
    "logits": (("token", "vocab"), ("float32",)),
}
DIMS = {name: dims for name, (dims, _) in SCHEMA.items()}

# Axes with an entry per token.
TOKEN_DIMS = ("token", "query", "key")
# Axes of layers. Their labels are model layer numbers; those of `moe_layer` may count blocks (`shape.Shape`).
LAYER_DIMS = ("layer", "moe_layer", "attention_layer", "indexer_layer")
# Axis -> key of the published configuration that states its length, unless the trace states a shape.
CONFIG_KEYS = {
    "layer": "num_hidden_layers",
    "expert": "n_routed_experts",
    "group": "n_group",
    "width": "hidden_size",
    "vocab": "vocab_size",
}
# Key of the published configuration -> largest accepted value, because pages build lists of this length.
COUNTS = {
    "num_hidden_layers": shape.MOST_LAYERS, "num_attention_heads": shape.MOST_HEADS,
    "num_experts_per_tok": shape.MOST_EXPERTS,
}  # fmt: skip
# Keys of latent attention and of an indexer, whose values pages compute with.
WIDTHS = (
    "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "index_topk", "index_n_heads",
    "index_head_dim",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """One token of a run. `start` and `end` are byte offsets in the run's text; they are equal for a special token."""

    id: int
    piece: str  # entry of the vocabulary, used as a label only
    start: int
    end: int
    generated: bool

    @property
    def special(self) -> bool:
        """Whether the token stands for no text."""
        return self.start == self.end and self.piece != ""


@dataclasses.dataclass(frozen=True, eq=False)  # == of datasets gives no bool, so a trace equals only itself
class Trace:
    """The record of one finished run. The arrays are read-only, and `data` is a shallow copy of the argument.

    Attributes:
        data: the variables of `SCHEMA` that were recorded.
        tokens: tokens of the axis `token`; their byte spans cover `text` without gap or overlap.
        text: prompt and generated text; need not be valid UTF-8.
        request: request of the run as JSON values.
        model: entries `name`, `config` (published keys), `weights_sha256`, `tokenizer_sha256`; of a model without the
            keys of DeepSeek-V3 also `shape` and `router`, the fields of `Shape` and `RouterFacts`.
        origin: entries `kind` (`measured` or `imported`), `engine`, `device`, `dtype`, `versions`, `time_utc`.

    Raises:
        TraceError: the parts contradict the schema or each other.
    """

    data: xr.Dataset
    tokens: tuple[Token, ...]
    text: bytes
    request: Mapping[str, Any]
    model: Mapping[str, Any]
    origin: Mapping[str, Any]

    def __post_init__(self) -> None:
        data = self.data.copy(deep=False)
        for variable in data.variables.values():
            variable.values.flags.writeable = False
        object.__setattr__(self, "data", data)
        _check_variables(data)
        _check_lengths(data, len(self.tokens))
        _check_labels(data)
        _check_tokens(self.tokens, self.text, data["token_id"].values.tolist())
        _check_texts(self)
        num_experts = self._check_shape()
        _check_interventions(self.interventions)
        if "expert_id" in data:
            _check_experts(data["expert_id"].values, num_experts, 0 if self.origin.get("kind") == "measured" else -1)
        if "rank_order" in data:
            _check_order(data["rank_order"].values)
        if "draft_expert_id" in data:
            _check_experts(data["draft_expert_id"].values, num_experts, -1)

    def _check_shape(self) -> int:
        """Check the axes against the stated shape or configuration, and return the number that bounds expert ids."""
        if ("shape" in self.model) != ("router" in self.model):
            raise TraceError("a model must state both its shape and its router, or neither")
        if self.router is None:
            return _check_config(self.data, self.config)
        labels = {str(dim): labels.values.tolist() for dim, labels in self.data.coords.items()}
        shape.check(self.shape, self.router, self.data.sizes, labels)
        _check_counts(self.config, dict.fromkeys(WIDTHS, shape.MOST_WIDTH), optional=True)
        return self.shape.num_experts or shape.MOST_EXPERTS

    def has(self, variable: str) -> bool:
        """Return whether the variable was recorded."""
        return variable in self.data

    @property
    def config(self) -> Mapping[str, Any]:
        """The model's published configuration; empty if the trace has none."""
        stated = self.model.get("config")
        return stated if isinstance(stated, Mapping) else {}

    @functools.cached_property
    def shape(self) -> Shape:
        """The axes of the model: as stated, or from the recorded axes and the configuration."""
        if "shape" in self.model:
            return Shape.from_json(self.model["shape"])
        layers = self.data["moe_layer"].values.tolist() if "moe_layer" in self.data.coords else []
        return Shape.of_config(self.config, self.data.sizes, tuple(layers))

    @functools.cached_property
    def router(self) -> RouterFacts | None:
        """What the run found out about the router; None in a trace whose configuration states the rule."""
        return RouterFacts.from_json(self.model["router"]) if "router" in self.model else None

    @property
    def interventions(self) -> Sequence[Mapping[str, Any]]:
        """The run's interventions as JSON values; empty if the request states none."""
        stated = self.request.get("interventions")
        return stated if isinstance(stated, list | tuple) else ()

    @property
    def num_tokens(self) -> int:
        """The number of tokens."""
        return len(self.tokens)

    @property
    def prompt_mask(self) -> xr.DataArray:
        """Mask of the prompt tokens, [token]."""
        return xr.DataArray([not token.generated for token in self.tokens], dims=("token",))

    @property
    def special_mask(self) -> xr.DataArray:
        """Mask of the tokens that stand for no text, [token]."""
        return xr.DataArray([token.special for token in self.tokens], dims=("token",))


def _check_variables(data: xr.Dataset) -> None:
    for name, values in data.data_vars.items():
        if name not in SCHEMA:
            raise TraceError(f"a trace has no variable {name!r:.80}")
        dims, dtypes = SCHEMA[str(name)]
        if values.dims != dims:
            raise TraceError(f"{name} has the axes {', '.join(map(str, values.dims)):.80}, not {', '.join(dims)}")
        if str(values.dtype) not in dtypes:
            raise TraceError(f"{name} is {values.dtype}, not {' or '.join(dtypes)}")


def _check_lengths(data: xr.Dataset, num_tokens: int) -> None:
    if "token_id" not in data:
        raise TraceError("a trace needs at least token_id")
    if num_tokens == 0:
        raise TraceError("a trace needs at least one token")
    for dim in TOKEN_DIMS:
        if data.sizes.get(dim, num_tokens) != num_tokens:
            raise TraceError(f"the {dim} axis has {data.sizes[dim]} entries for {num_tokens} tokens")


def _check_labels(data: xr.Dataset) -> None:
    axes = {dim for dims in DIMS.values() for dim in dims}
    for dim in LAYER_DIMS:
        if dim in data.sizes and dim not in data.coords:
            raise TraceError(f"the {dim} axis needs the model's layer numbers as labels")
    for dim, labels in data.coords.items():
        if dim not in axes or labels.dims != (dim,):
            raise TraceError(f"a trace has no axis {dim!r:.80} to label")
        numbers = labels.values
        if numbers.size and (numbers.dtype.kind not in "iu" or numbers[0] < 0 or (numbers[1:] <= numbers[:-1]).any()):
            raise TraceError(f"the labels of the {dim} axis must be ascending whole numbers from 0")


def _check_config(data: xr.Dataset, stated: Mapping[str, Any]) -> int:
    """Check the axes against the configuration, and return the number of routed experts, which bounds expert ids."""
    for dim, key in CONFIG_KEYS.items():
        if key in stated and dim in data.sizes and stated[key] != data.sizes[dim]:
            raise TraceError(f"the {dim} axis has {data.sizes[dim]} entries, the model's {key} is {stated[key]!r:.40}")
    _check_counts(stated, COUNTS | dict.fromkeys(WIDTHS, shape.MOST_WIDTH))
    num_experts = data.sizes.get("expert", stated.get("n_routed_experts", shape.MOST_EXPERTS))
    if type(num_experts) is not int or not 1 <= num_experts <= shape.MOST_EXPERTS:
        raise TraceError(f"a model cannot have {num_experts!r:.40} routed experts")
    return num_experts


def _check_counts(stated: Mapping[str, Any], bounds: Mapping[str, int], optional: bool = False) -> None:
    """Check that the configuration states whole numbers within `bounds`; `optional`: it may state null."""
    for key, most in bounds.items():
        value = stated.get(key)
        possible = optional if value is None else _is_whole(value) and value <= most
        if key in stated and not possible:
            raise TraceError(f"the model's {key} is {value!r:.40}, not a whole number from 0 to {most:,}")


def _check_texts(trace: Trace) -> None:
    """Refuse lists and objects in place of names, because readers look names up in tables and compare them."""
    for owner, values, names in (
        ("model", trace.model, ("weights_sha256", "tokenizer_sha256")),
        ("configuration", trace.config, ("model_type", "scoring_func", "topk_method")),
        ("origin", trace.origin, ("kind", "dtype")),
    ):
        for name in names:
            if not isinstance(value := values.get(name), str | None):
                raise TraceError(f"{name} of the {owner} must be text, not {value!r:.40}")


def _is_whole(value: Any) -> bool:
    return type(value) is int and value >= 0


def _check_interventions(interventions: Sequence[Any]) -> None:
    for change in interventions:
        if not isinstance(change, Mapping):
            raise TraceError(f"an intervention must be a JSON object, not {change!r:.40}")
        layer, layers = change.get("layer"), change.get("layers")
        known = isinstance(layers, list | tuple) and all(map(_is_whole, layers))
        if not (layer is None or _is_whole(layer)) or not (layers is None or known):
            raise TraceError("an intervention must name layers by whole numbers")


def _check_experts(expert_id: np.ndarray, num_experts: int, lowest: int) -> None:
    for extreme in (expert_id.min(initial=lowest), expert_id.max(initial=lowest)):
        if not lowest <= extreme < num_experts:
            raise TraceError(f"expert_id names expert {extreme} of a model with {num_experts}")
    ordered = np.sort(expert_id, axis=-1)
    twice = (ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] >= 0)
    if twice.any():
        token, layer, slot = (int(found[0]) for found in np.nonzero(twice))
        raise TraceError(f"expert_id names expert {ordered[token, layer, slot]} twice for token {token}")


def _check_order(rank_order: np.ndarray) -> None:
    if (np.sort(rank_order, axis=-1) != np.arange(rank_order.shape[-1])).any():
        raise TraceError("rank_order must hold each rank of a token once")


def _check_tokens(tokens: tuple[Token, ...], text: bytes, token_ids: list[int]) -> None:
    reached = 0
    for index, (token, token_id) in enumerate(zip(tokens, token_ids, strict=True)):
        if token.start != reached or token.end < token.start:
            raise TraceError(f"token {index} spans bytes {token.start} to {token.end}, but {reached} were reached")
        if token.id != token_id:
            raise TraceError(f"token {index} has the id {token.id}, but token_id says {token_id}")
        reached = token.end
    if reached != len(text):
        raise TraceError(f"the tokens span {reached} bytes of a text of {len(text)}")
