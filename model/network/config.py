"""The shape of a model of the DeepSeek-V3 family, read from and written to a published `config.json`.

`_PUBLISHED` maps this project's field names to the published keys. Rotary settings are read in both spellings
(`rope_theta` with `rope_scaling`, and transformers 5's `rope_parameters`) and written in the first. A value that the
network does not implement raises an error that names it, because ignoring it would give wrong numbers without a
warning. `config_keys.py` lists every other key, and whether it is refused or has no effect.

Source: DeepSeek-V3 report (arXiv 2412.19437), section 4.2 and appendix; the released `config.json`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from model.network.config_keys import BESIDE_FIELDS, ONLY, merged, refuse_unsupported
from model.network.rope import ConfigError, Yarn, is_number, read_rope, unknown_rope_keys, write_rope

# A published configuration does not state every difference between families; `model_type` decides the rest.
SPARSE_TYPES = ("deepseek_v32", "glm_moe_dsa")
MODEL_TYPES = ("deepseek_v2", "deepseek_v3", "kimi_k2", *SPARSE_TYPES)
_ARCHITECTURES = {
    "deepseek_v2": "DeepseekV2ForCausalLM",
    "deepseek_v32": "DeepseekV32ForCausalLM",
    "glm_moe_dsa": "GlmMoeDsaForCausalLM",
}

_PUBLISHED = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_dense_layers": "first_k_dense_replace",
    "num_heads": "num_attention_heads",
    "q_lora_rank": "q_lora_rank",
    "kv_lora_rank": "kv_lora_rank",
    "nope_head_dim": "qk_nope_head_dim",
    "rope_head_dim": "qk_rope_head_dim",
    "value_head_dim": "v_head_dim",
    "dense_width": "intermediate_size",
    "expert_width": "moe_intermediate_size",
    "num_experts": "n_routed_experts",
    "num_shared_experts": "n_shared_experts",
    "top_k": "num_experts_per_tok",
    "num_groups": "n_group",
    "num_kept_groups": "topk_group",
    "normalise_weights": "norm_topk_prob",
    "routed_scale": "routed_scaling_factor",
    "max_positions": "max_position_embeddings",
    "norm_eps": "rms_norm_eps",
    "tie_embeddings": "tie_word_embeddings",
    "attention_bias": "attention_bias",
    "model_type": "model_type",
    "bos_id": "bos_token_id",
    "eos_id": "eos_token_id",
    "scoring": "scoring_func",
    "selection": "topk_method",
}
_PUBLISHED_INDEXER = {
    "index_heads": "index_n_heads",
    "index_head_dim": "index_head_dim",
    "index_topk": "index_topk",
}

_NAMES = _PUBLISHED | _PUBLISHED_INDEXER  # field -> published key
_MTP_READS_NORMED = "mtp_reads_normed"  # our own key: no published configuration states it

_OPTIONAL = ("q_lora_rank", "bos_id", "eos_id")  # null means "none" for these fields, and "not stated" for all others


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """All sizes and settings that determine the shapes of the tensors and the arithmetic between them."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_dense_layers: int  # the first layers, whose feed-forward block is not an MoE
    num_heads: int
    q_lora_rank: int | None  # None: one full query matrix
    kv_lora_rank: int
    nope_head_dim: int  # width of a head's content part
    rope_head_dim: int  # width of a head's position part
    value_head_dim: int
    dense_width: int
    expert_width: int
    num_experts: int
    num_shared_experts: int
    top_k: int
    num_groups: int
    num_kept_groups: int
    normalise_weights: bool
    routed_scale: float
    max_positions: int
    rope_theta: float = 10000.0
    yarn: Yarn | None = None
    norm_eps: float = 1e-6
    tie_embeddings: bool = False
    attention_bias: bool = False
    model_type: str = "deepseek_v3"
    bos_id: int | None = 0
    eos_id: int | None = 1
    scoring: str = "sigmoid"  # or "softmax" over all experts (V2)
    selection: str = "noaux_tc"  # with a bias; V2: "greedy" or "group_limited_greedy"
    index_heads: int = 0  # heads of the indexer (sparse attention only)
    index_head_dim: int = 0  # width of an index head
    index_topk: int = 0  # keys that the indexer selects per query
    indexer_types: tuple[str, ...] | None = None  # per layer: "full", or "shared" with the last full one (GLM)
    has_mtp: bool = False  # a multi-token-prediction (MTP) module of depth 1
    mtp_reads_normed: bool = True  # the MTP module reads the hidden state after the final norm, not before (mtp.py)

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_router()
        self._check_indexer()

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """Model layer numbers of the MoE layers (3 to 60 in the released V3)."""
        return tuple(range(self.num_dense_layers, self.num_layers))

    @property
    def is_sparse(self) -> bool:
        """Whether an indexer selects the keys that attention reads."""
        return self.model_type in SPARSE_TYPES

    @property
    def indexer_layers(self) -> tuple[int, ...]:
        """Model layer numbers of the layers with an indexer of their own."""
        if not self.is_sparse:
            return ()
        types = self.indexer_types or ("full",) * self.num_layers
        return tuple(layer for layer, kind in enumerate(types) if kind == "full")

    def has_indexer(self, layer: int) -> bool:
        """Whether a layer has an indexer of its own; layer `num_layers` is the multi-token-prediction layer."""
        return self.is_sparse and (layer == self.num_layers or layer in self.indexer_layers)

    @property
    def index_interleaved(self) -> bool:
        """Whether the indexer rotates adjacent channels (GLM) or channels half the width apart (V3.2)."""
        return self.model_type == "glm_moe_dsa"

    @property
    def has_selection_bias(self) -> bool:
        """Whether the router has a bias that affects the selection only."""
        return self.selection == "noaux_tc"

    @property
    def group_size(self) -> int:
        """Experts per routing group."""
        return self.num_experts // self.num_groups

    @property
    def query_head_dim(self) -> int:
        """Width of a query or key head: content part plus position part."""
        return self.nope_head_dim + self.rope_head_dim

    def _check_sizes(self) -> None:
        for field in dataclasses.fields(self):
            value, name = getattr(self, field.name), _NAMES.get(field.name, field.name)
            if field.type is int and not is_whole(value):
                raise ConfigError(f"{name} must be a whole number, not {value!r:.40}")
            if field.type == int | None and not (value is None or is_whole(value)):
                raise ConfigError(f"{name} must be a whole number or null, not {value!r:.40}")
            if field.type is float and not (is_number(value) and value >= 0):
                raise ConfigError(f"{name} must be a number from 0 on, not {value!r:.40}")
            if field.type is bool and not isinstance(value, bool):
                raise ConfigError(f"{name} must be true or false, not {value!r:.40}")
        for name in ("vocab_size", "hidden_size", "num_layers", "num_heads", "kv_lora_rank", "rope_head_dim"):
            if getattr(self, name) == 0:
                raise ConfigError(f"{_PUBLISHED[name]} must be at least 1")
        if self.rope_head_dim % 2:
            raise ConfigError(f"qk_rope_head_dim must be even, not {self.rope_head_dim}")
        if self.num_dense_layers > self.num_layers:
            raise ConfigError(
                f"first_k_dense_replace {self.num_dense_layers} exceeds num_hidden_layers {self.num_layers}"
            )

    def _check_router(self) -> None:
        if not self.moe_layers:
            return
        if self.num_groups < 1 or self.num_experts < 1 or self.num_experts % self.num_groups:
            raise ConfigError(f"n_routed_experts {self.num_experts} is not a multiple of n_group {self.num_groups}")
        if self.selection == "noaux_tc" and self.group_size < 2:
            raise ConfigError("a group needs at least 2 experts, because its score is the sum of its best two")
        if not 1 <= self.num_kept_groups <= self.num_groups:
            raise ConfigError(f"topk_group {self.num_kept_groups} is not between 1 and n_group {self.num_groups}")
        reachable = self.num_kept_groups * self.group_size
        if not 1 <= self.top_k <= reachable:
            raise ConfigError(f"num_experts_per_tok {self.top_k} is not between 1 and the {reachable} experts kept")

    def _check_indexer(self) -> None:
        if not self.is_sparse:
            return
        for ours, theirs in _PUBLISHED_INDEXER.items():
            if getattr(self, ours) < 1:
                raise ConfigError(f"{theirs} must be at least 1")
        if self.q_lora_rank is None:
            raise ConfigError("an indexer needs q_lora_rank, because its queries come from the query latent")
        if self.index_head_dim < self.rope_head_dim:
            raise ConfigError(
                f"index_head_dim {self.index_head_dim} is less than the {self.rope_head_dim} rotated channels"
            )
        types = self.indexer_types
        if types is None:
            return
        if len(types) != self.num_layers or set(types) - {"full", "shared"}:
            raise ConfigError("indexer_types must say 'full' or 'shared' for each layer")
        if types[:1] == ("shared",):
            raise ConfigError("the first layer cannot share the selection of a layer before it")

    @classmethod
    def from_json(cls, published: Mapping[str, Any]) -> "ModelConfig":
        """Return the configuration that a published config.json states.

        Raises:
            ConfigError: a key is missing, contradicts another, or has a value that is not implemented.
        """
        if not isinstance(published, Mapping):
            raise ConfigError("config.json must hold an object")
        published = merged(published)
        refuse_unsupported(published, MODEL_TYPES)
        values: dict[str, Any] = {ours: published[theirs] for ours, theirs in _PUBLISHED.items() if theirs in published}
        values = {name: value for name, value in values.items() if value is not None or name in _OPTIONAL}
        values |= _READERS.get(str(published["model_type"]), lambda _: {})(published)
        missing = [_PUBLISHED[f.name] for f in dataclasses.fields(cls) if _is_required(f) and f.name not in values]
        if missing:
            raise ConfigError(f"config.json lacks {', '.join(missing)}")
        if isinstance(values.get("eos_id"), list):
            values["eos_id"] = values["eos_id"][0] if values["eos_id"] else None
        announced = published.get("num_nextn_predict_layers")
        values["has_mtp"] = isinstance(announced, int) and announced > 0
        values["mtp_reads_normed"] = published.get(_MTP_READS_NORMED, True)
        theta, yarn = read_rope(published)
        return cls(**values, rope_theta=theta, yarn=yarn)

    def to_json(self) -> dict[str, Any]:
        """Return the published keys, in the spelling of the released config.json."""
        published: dict[str, Any] = {theirs: getattr(self, ours) for ours, theirs in _PUBLISHED.items()}
        published |= {key: only for key, (only,) in ONLY.items()} | {
            "num_key_value_heads": self.num_heads,
            "rope_theta": self.rope_theta,
        }
        architecture = _ARCHITECTURES.get(self.model_type, "DeepseekV3ForCausalLM")
        published |= {"architectures": [architecture], "num_nextn_predict_layers": int(self.has_mtp)}
        if not self.mtp_reads_normed:
            published[_MTP_READS_NORMED] = False
        if self.is_sparse:
            published |= {theirs: getattr(self, ours) for ours, theirs in _PUBLISHED_INDEXER.items()}
        if self.indexer_types is not None:
            published["indexer_types"] = list(self.indexer_types)
        published["rope_scaling"] = write_rope(self.yarn)
        return published


def is_whole(value: object) -> bool:
    """Whether a JSON value is a whole number of at least 0."""
    return type(value) is int and value >= 0


def _is_required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING


def unknown_keys(published: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys of a config.json, and of its rotary settings, that this project does not know."""
    names = {*_NAMES.values(), *BESIDE_FIELDS}
    return tuple(sorted(key for key in published if key not in names)) + unknown_rope_keys(published)


def unused_keys(published: Mapping[str, Any]) -> tuple[str, ...]:
    """Return one message for each key of a config.json that other programs use and that has no effect here."""
    lines, model_type = [], published.get("model_type")
    if model_type not in SPARSE_TYPES and published.get("index_topk") is not None:
        lines.append(f"index_topk {published['index_topk']!r} has no effect: {model_type} has no indexer")
    named = published.get("architectures")
    others = {architecture: kind for kind, architecture in _ARCHITECTURES.items()}
    for architecture in named if isinstance(named, list) else ():
        if others.get(str(architecture), model_type) != model_type:
            lines.append(f"architectures says {architecture}, model_type {model_type}; model_type decides here")
    ends = published.get("eos_token_id")
    if isinstance(ends, list) and len(ends) > 1:
        lines.append(f"only the first of eos_token_id {ends} ends a text here")
    return tuple(lines)


def _read_v2(published: Mapping[str, Any]) -> dict[str, Any]:
    """Return the router fields of a V2 model: softmax, weights not normalised, one group if the selection is greedy."""
    selection = published.get("topk_method") or "greedy"
    grouped = selection == "group_limited_greedy"
    return {
        "scoring": "softmax",
        "selection": selection,
        "normalise_weights": False,
        "num_groups": published.get("n_group") if grouped else 1,
        "num_kept_groups": published.get("topk_group") if grouped else 1,
    }


def _read_sparse(published: Mapping[str, Any]) -> dict[str, Any]:
    """Return the indexer fields; the file gives the layers as a list, a pattern such as "FSS", or a period."""
    values = {ours: published[theirs] for ours, theirs in _PUBLISHED_INDEXER.items() if theirs in published}
    types, pattern = published.get("indexer_types"), published.get("index_topk_pattern")
    every = published.get("index_topk_freq")
    if types is None and isinstance(pattern, str):
        types = [{"F": "full", "S": "shared"}.get(letter, letter) for letter in pattern]
    if types is None and every is not None:
        types = _periodic(published.get("num_hidden_layers"), every, published.get("index_skip_topk_offset", 2))
    if types is not None:
        if not isinstance(types, list) or not all(isinstance(kind, str) for kind in types):
            raise ConfigError("indexer_types must say 'full' or 'shared' for each layer")
        values["indexer_types"] = tuple(types)
    return values


def _periodic(layers: Any, every: Any, offset: Any) -> list[str] | None:
    """Return for each layer "full" if it has an indexer, else "shared"; None if every layer has an indexer.

    The first `offset` layers have an indexer; of the layers after them, the last of every `every` layers has one.
    """
    if not all(map(is_whole, (layers, every, offset))):
        raise ConfigError("index_topk_freq, index_skip_topk_offset and num_hidden_layers must be whole numbers")
    if every <= 1:
        return None
    return ["shared" if max(layer - offset + 1, 0) % every else "full" for layer in range(layers)]


_READERS = {"deepseek_v2": _read_v2, "deepseek_v32": _read_sparse, "glm_moe_dsa": _read_sparse}
