"""What a sweep needs of a model: its axes, its tokens, and the decisions of its routers for a batch of windows.

Shape suffixes: N tokens of all windows of a batch, one window after another, L MoE layers, K selected experts.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from model.checkpoint.tokenizer import Tokenizer
from model.sweep.settings import Settings, SweepError
from model.sweep.windows import Window


@dataclasses.dataclass(frozen=True)
class Decisions:
    """The decisions for a batch; what the source cannot give is None.

    Attributes:
        ids_NLK: selected experts, int64, ascending within a layer; weights and norms follow the same order.
        weights_NLK: their gate weights.
        margins_NL: lowest selected biased score minus the best unselected one.
        norms_NLK: Euclidean norms of the experts' outputs before their gate weights.
        bits_N: -log2 of the probability of each token, given those before it in its window; NaN for the first.
        refused_N: tokens whose ids cannot be trusted; they are left out of every sum and counted.
    """

    ids_NLK: np.ndarray
    weights_NLK: np.ndarray | None = None
    margins_NL: np.ndarray | None = None
    norms_NLK: np.ndarray | None = None
    bits_N: np.ndarray | None = None
    refused_N: np.ndarray | None = None


class Source(Protocol):
    """A loaded model, or an engine that serves one."""

    @property
    def layers(self) -> Sequence[int]:
        """Numbers of the MoE layers in the model."""
        ...

    @property
    def num_experts(self) -> int: ...
    @property
    def top_k(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def context(self) -> int:
        """Largest number of tokens of a window."""
        ...

    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def capture(self) -> frozenset[str]:
        """What every batch has beyond ids: of "weights", "margins", "norms" and "bits"."""
        ...

    @property
    def description(self) -> Mapping[str, Any]:
        """`name`, `config`, `weights_sha256` and `tokenizer_sha256`, for the manifest."""
        ...

    @property
    def origin(self) -> Mapping[str, Any]:
        """`source`, `device` and `dtype`, for the manifest."""
        ...

    def decisions(self, windows: Sequence[Window]) -> Decisions:
        """Return the decisions for all tokens of the windows.

        Raises:
            ValueError, RuntimeError: the windows cannot be run.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the end of a sweep needs of a source: it holds no weights, which workers load for themselves."""

    layers: Sequence[int]
    top_k: int
    tokenizer: Tokenizer
    capture: frozenset[str]

    @classmethod
    def of(cls, source: Source) -> "Facts":
        """Return the facts of a source."""
        return cls(source.layers, source.top_k, source.tokenizer, source.capture)


def open_source(settings: Settings) -> Source:
    """Load the model of a sweep, in the own network or by transformers, or connect to the engine that serves it.

    Raises:
        ValueError, OSError: the model cannot be loaded, or cannot be swept.
    """
    if settings.engine is not None:
        from model.sweep.served import open_served

        return open_served(settings)
    from model.families.choose import load
    from model.run.engine import Engine

    dtype, bits = settings.dtype, "bits" in settings.keep
    engine = load(settings.model, device=settings.device, dtype=dtype)
    if engine.tokenizer is None:
        raise SweepError(f"{settings.model} has no tokenizer.json, so texts cannot be encoded")
    if isinstance(engine, Engine):
        from model.sweep.network import NetworkSource

        return NetworkSource(engine, engine.tokenizer, bits)
    from model.sweep.family import FamilySource

    return FamilySource(engine, engine.tokenizer, bits)
