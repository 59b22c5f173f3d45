"""Rotary settings in a published `config.json`: base and YaRN, in the released spelling and in transformers 5's.

Source: YaRN (arXiv 2309.00071); the released `config.json` of DeepSeek-V3.
"""

import dataclasses
import math
import sys
from collections.abc import Mapping
from typing import Any, TypeGuard


class ConfigError(ValueError):
    """A configuration that is incomplete, contradicts itself, or needs something that is not implemented."""


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


def is_number(value: object) -> TypeGuard[float]:
    """Whether a JSON value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _positive(value: Any, key: str) -> float:
    if value is None:
        raise ConfigError(f"rope scaling lacks {key}")
    if not is_number(value) or value <= 0:
        raise ConfigError(f"{key} must be a number above 0, not {value!r:.40}")
    return float(value)


def read_rope(published: Mapping[str, Any]) -> tuple[float, Yarn | None]:
    """Return the rotary base and YaRN settings from either spelling.

    Raises:
        ConfigError: a setting is missing, impossible, or not implemented.
    """
    rope = published.get("rope_parameters") or published.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise ConfigError("rope_scaling must be an object or null")
    theta = _positive(rope.get("rope_theta", published.get("rope_theta", 10000.0)), "rope_theta")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind != "yarn":
        raise ConfigError(f"rope scaling {kind!r} is not supported; only 'yarn' is")
    for key, only in (("attention_factor", None), ("truncate", True)):
        if rope.get(key, only) != only:
            raise ConfigError(f"rope scaling with {key} {rope[key]!r} is not supported")
    original = "original_max_position_embeddings"
    yarn = Yarn(
        factor=_positive(rope.get("factor"), "factor"),
        original_max_positions=int(_positive(rope.get(original), original)),
        beta_fast=_positive(rope.get("beta_fast") or 32, "beta_fast"),
        beta_slow=_positive(rope.get("beta_slow") or 1, "beta_slow"),
        mscale=_positive(rope["mscale"], "mscale") if rope.get("mscale") else 0.0,
        mscale_all_dim=_positive(rope["mscale_all_dim"], "mscale_all_dim") if rope.get("mscale_all_dim") else 0.0,
    )
    if theta <= 1 or yarn.original_max_positions < 1:  # YaRN takes their logarithms, and divides by one
        raise ConfigError(f"yarn needs a rope_theta above 1 and {original} of at least 1")
    return theta, yarn


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
