"""The shape of a DeepSeek-V3 model, read from and written to a published `config.json`.

Field names are this project's; `_PUBLISHED` maps them to the published keys. Both spellings of the rotary settings are
read (`rope_theta` + `rope_scaling`, and transformers 5's `rope_parameters`); the published one is written. What this
version cannot run is refused by name here, because running it as something else would be silently wrong.

Source: DeepSeek-V3 report (arXiv 2412.19437), section 4.2 and appendix; the released `config.json`.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

MODEL_TYPES = ("deepseek_v3",)

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
}

# Keys whose value changes what the model computes: only this value is implemented, another one is refused.
_ONLY = {
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "hidden_act": "silu",
    "moe_layer_freq": 1,
    "rope_interleave": True,
}


class ConfigError(ValueError):
    """A configuration that is incomplete, contradicts itself, or asks for what is not implemented."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Yarn:
    """Context extension by YaRN (arXiv 2309.00071): slow rotations are interpolated by `factor`, fast ones kept."""

    factor: float
    original_max_positions: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 0.0
    mscale_all_dim: float = 0.0

    @staticmethod
    def _magnitude(factor: float, mscale: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0

    @property
    def rotation_scale(self) -> float:
        """Factor on cos and sin; 1 in the released model, whose two mscales are equal."""
        if self.mscale and self.mscale_all_dim:
            return self._magnitude(self.factor, self.mscale) / self._magnitude(self.factor, self.mscale_all_dim)
        return self._magnitude(self.factor, 1.0)

    @property
    def softmax_scale(self) -> float:
        """Factor on the attention score (the square of the report's temperature term), 1 without mscale_all_dim."""
        return self._magnitude(self.factor, self.mscale_all_dim) ** 2 if self.mscale_all_dim else 1.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Everything that fixes the tensors' shapes and the arithmetic between them."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_dense_layers: int  # the first layers have an ordinary feed-forward block
    num_heads: int
    q_lora_rank: int | None  # None: queries come from one full matrix
    kv_lora_rank: int
    nope_head_dim: int  # width of a head's content part
    rope_head_dim: int  # width of its position part
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

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_router()

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """Model layer numbers of the mixture-of-experts layers (3 to 60 in the released V3)."""
        return tuple(range(self.num_dense_layers, self.num_layers))

    @property
    def group_size(self) -> int:
        """Experts per routing group."""
        return self.num_experts // self.num_groups

    @property
    def query_head_dim(self) -> int:
        """Width of a query or key head: content part, then position part."""
        return self.nope_head_dim + self.rope_head_dim

    def _check_sizes(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is int and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise ConfigError(f"{_PUBLISHED[field.name]} must be a whole number, not {value!r}")
        optional = ("num_shared_experts", "num_dense_layers")
        for name in ("vocab_size", "hidden_size", "num_layers", "num_heads", "kv_lora_rank", "rope_head_dim"):
            if name not in optional and getattr(self, name) == 0:
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
        if self.group_size < 2:
            raise ConfigError("a group needs at least 2 experts, because its score is the sum of its best two")
        if not 1 <= self.num_kept_groups <= self.num_groups:
            raise ConfigError(f"topk_group {self.num_kept_groups} is not between 1 and n_group {self.num_groups}")
        reachable = self.num_kept_groups * self.group_size
        if not 1 <= self.top_k <= reachable:
            raise ConfigError(f"num_experts_per_tok {self.top_k} is not between 1 and the {reachable} experts kept")

    @classmethod
    def from_json(cls, published: Mapping[str, Any]) -> "ModelConfig":
        """Read the keys of a published config.json.

        Raises:
            ConfigError: a key is missing, contradicts another, or has a value that is not implemented.
        """
        if not isinstance(published, Mapping):
            raise ConfigError("config.json must hold an object")
        _refuse_unsupported(published)
        values = {ours: published[theirs] for ours, theirs in _PUBLISHED.items() if theirs in published}
        missing = [_PUBLISHED[f.name] for f in dataclasses.fields(cls) if _is_required(f) and f.name not in values]
        if missing:
            raise ConfigError(f"config.json lacks {', '.join(missing)}")
        if isinstance(values.get("eos_id"), list):
            values["eos_id"] = values["eos_id"][0] if values["eos_id"] else None
        theta, yarn = _read_rope(published)
        return cls(**values, rope_theta=theta, yarn=yarn)

    def to_json(self) -> dict[str, Any]:
        """The published keys, in the spelling of the released config.json."""
        published: dict[str, Any] = {theirs: getattr(self, ours) for ours, theirs in _PUBLISHED.items()}
        published |= dict(_ONLY) | {"num_key_value_heads": self.num_heads, "rope_theta": self.rope_theta}
        published |= {"architectures": ["DeepseekV3ForCausalLM"], "num_nextn_predict_layers": 0}
        published["rope_scaling"] = self.yarn and {
            "type": "yarn",
            "factor": self.yarn.factor,
            "original_max_position_embeddings": self.yarn.original_max_positions,
            "beta_fast": self.yarn.beta_fast,
            "beta_slow": self.yarn.beta_slow,
            "mscale": self.yarn.mscale,
            "mscale_all_dim": self.yarn.mscale_all_dim,
        }
        return published


def _is_required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING


def _refuse_unsupported(published: Mapping[str, Any]) -> None:
    model_type = published.get("model_type")
    if model_type not in MODEL_TYPES:
        raise ConfigError(f"model_type {model_type!r} is not supported; supported: {', '.join(MODEL_TYPES)}")
    for key, only in _ONLY.items():
        if published.get(key, only) not in (only, None):
            raise ConfigError(f"{key} {published[key]!r} is not supported; only {only!r} is")
    heads, kv_heads = published.get("num_attention_heads"), published.get("num_key_value_heads")
    if kv_heads not in (None, heads):
        raise ConfigError(
            f"num_key_value_heads {kv_heads} differs from num_attention_heads {heads}; MLA has one latent"
        )


def _read_rope(published: Mapping[str, Any]) -> tuple[float, Yarn | None]:
    """Rotary base and YaRN settings from either spelling."""
    rope = published.get("rope_parameters") or published.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise ConfigError("rope_scaling must be an object or null")
    theta = float(rope.get("rope_theta", published.get("rope_theta", 10000.0)))
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind != "yarn":
        raise ConfigError(f"rope scaling {kind!r} is not supported; only 'yarn' is")
    for key, only in (("attention_factor", None), ("truncate", True)):
        if rope.get(key, only) != only:
            raise ConfigError(f"rope scaling with {key} {rope[key]!r} is not supported")
    try:
        yarn = Yarn(
            factor=float(rope["factor"]),
            original_max_positions=int(rope["original_max_position_embeddings"]),
            beta_fast=float(rope.get("beta_fast") or 32),
            beta_slow=float(rope.get("beta_slow") or 1),
            mscale=float(rope.get("mscale") or 0),
            mscale_all_dim=float(rope.get("mscale_all_dim") or 0),
        )
    except KeyError as missing:
        raise ConfigError(f"rope scaling lacks {missing.args[0]}") from None
    return theta, yarn
