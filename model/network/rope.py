"""Rotary settings in a published `config.json`: base and YaRN, in the released spelling and in transformers 5's.

Source: YaRN (arXiv 2309.00071); the released `config.json` of DeepSeek-V3.
"""

import dataclasses
import math
import sys
from collections.abc import Mapping
from typing import Any, TypeGuard

_SPELLINGS = ("rope_parameters", "rope_scaling")
# Keys that change the rotation. Only this value and null are implemented.
_ROPE_ONLY = {
    "attention_factor": None,
    "truncate": True,
    "partial_rotary_factor": 1,
    "attn_factor": 1,
    "extrapolation_factor": 1,
    "mrope_section": None,
    "apply_yarn_scaling": True,
}
_ROPE_KEYS = {
    *_ROPE_ONLY,
    *("rope_theta", "rope_type", "type", "factor", "original_max_position_embeddings"),
    *("beta_fast", "beta_slow", "mscale", "mscale_all_dim"),
    "finetuned",  # no effect here; some remote code selects its rotary table by this key
}


class ConfigError(ValueError):
    """A configuration is incomplete, contradicts itself, or needs something that is not implemented."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Yarn:
    """Settings of YaRN (arXiv 2309.00071): it divides slow rotary frequencies by `factor` and keeps fast ones."""

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
        """Factor on cosine and sine; 1 in the released model, because its `mscale` equals its `mscale_all_dim`."""
        if self.mscale and self.mscale_all_dim:
            return self._magnitude(self.factor, self.mscale) / self._magnitude(self.factor, self.mscale_all_dim)
        return self._magnitude(self.factor, 1.0)

    @property
    def softmax_scale(self) -> float:
        """Factor on the attention score: the square of YaRN's temperature term, or 1 without `mscale_all_dim`."""
        return self._magnitude(self.factor, self.mscale_all_dim) ** 2 if self.mscale_all_dim else 1.0


def is_number(value: object) -> TypeGuard[float]:
    """Whether a JSON value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _positive(value: Any, key: str) -> float:
    if value is None:
        raise ConfigError(f"rope scaling lacks {key}")
    if not is_number(value) or value <= 0:
        raise ConfigError(f"{key} must be a number above 0, not {value!r:.40}")
    return float(value)


def brief(value: Any) -> str:
    """Return a JSON value as text for a message, cut after 160 characters; a string with a space is not quoted."""
    text = value if isinstance(value, str) and " " in value else repr(value)
    return text if len(text) <= 160 else f"{text[:160]}..."


def unknown_rope_keys(published: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys of the rotary settings that this project does not know; such a key may change the rotation."""
    found = [(key, published.get(key)) for key in _SPELLINGS]
    return tuple(
        f"{key}.{name}" for key, rope in found if isinstance(rope, Mapping) for name in rope if name not in _ROPE_KEYS
    )


def read_rope(published: Mapping[str, Any]) -> tuple[float, Yarn | None]:
    """Return the rotary base and YaRN settings from either spelling.

    Raises:
        ConfigError: a setting is missing, impossible, not implemented, or stated twice and differently.
    """
    stated = {key: published[key] for key in _SPELLINGS if published.get(key)}
    if not all(isinstance(rope, Mapping) for rope in stated.values()):
        raise ConfigError("rope_scaling must be an object or null")
    read = [_read(rope, key, published) for key, rope in stated.items()] or [_read({}, "", published)]
    if read[0] != read[-1]:
        pairs = " and ".join(f"{key} {brief(rope)}" for key, rope in stated.items())
        raise ConfigError(f"{pairs} contradict each other; keep the right one")
    return read[0]


def _read(rope: Mapping[str, Any], spelling: str, published: Mapping[str, Any]) -> tuple[float, Yarn | None]:
    original = "original_max_position_embeddings"
    _check_twice(rope, spelling, published, ("rope_theta", original))
    theta = _positive(rope.get("rope_theta", published.get("rope_theta", 10000.0)), "rope_theta")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if rope.get("type", kind) != kind:
        raise ConfigError(f"{spelling} has rope_type {kind!r} and type {rope['type']!r}; keep the right one")
    for key, only in _ROPE_ONLY.items():
        if rope.get(key) not in (None, only):
            raise ConfigError(f"rope scaling with {key} {rope[key]!r} is not supported")
    if kind == "default":
        return theta, None
    if kind != "yarn":
        raise ConfigError(f"rope scaling {kind!r} is not supported; only 'yarn' is")
    yarn = Yarn(
        factor=_positive(rope.get("factor"), "factor"),
        original_max_positions=int(_positive(rope.get(original, published.get(original)), original)),
        beta_fast=_positive(rope.get("beta_fast") or 32, "beta_fast"),
        beta_slow=_positive(rope.get("beta_slow") or 1, "beta_slow"),
        mscale=_positive(rope["mscale"], "mscale") if rope.get("mscale") else 0.0,
        mscale_all_dim=_positive(rope["mscale_all_dim"], "mscale_all_dim") if rope.get("mscale_all_dim") else 0.0,
    )
    if theta <= 1 or yarn.original_max_positions < 1:  # YaRN takes both logarithms and divides by that of theta
        raise ConfigError(f"yarn needs a rope_theta above 1 and {original} of at least 1")
    return theta, yarn


def _check_twice(rope: Mapping[str, Any], spelling: str, published: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    for key in keys:
        inner, outer = rope.get(key), published.get(key)
        if inner is not None and outer is not None and inner != outer:
            raise ConfigError(
                f"{key} {brief(outer)} and {spelling}.{key} {brief(inner)} contradict each other; keep the one meant"
            )


def write_rope(yarn: Yarn | None) -> dict[str, Any] | None:
    """Return `rope_scaling` in the spelling of the released config.json."""
    return yarn and {
        "type": "yarn",
        "factor": yarn.factor,
        "original_max_position_embeddings": yarn.original_max_positions,
        "beta_fast": yarn.beta_fast,
        "beta_slow": yarn.beta_slow,
        "mscale": yarn.mscale,
        "mscale_all_dim": yarn.mscale_all_dim,
    }
