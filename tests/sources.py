"""A source of a sweep without a model: its decisions are a function of the token and the one before it."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from model.checkpoint.embedded import find_model
from model.checkpoint.tokenizer import Tokenizer
from model.sweep.source import Decisions
from model.sweep.windows import Window


@functools.cache
def tokenizer() -> Tokenizer:
    """Return the tokenizer of mini-v3."""
    return Tokenizer.load(find_model("mini-v3"))


class FakeSource:
    """Three MoE layers of eight experts, two per token, with the vocabulary of mini-v3.

    Attributes:
        poison: a window that contains this token fails.
        unsteady: whether a second routing of a window gives other experts.
    """

    layers, num_experts, top_k, context = (1, 2, 4), 8, 2, 64
    capture = frozenset({"weights", "margins", "norms", "bits"})
    origin = {"source": "fake", "device": "cpu", "dtype": "float32"}

    def __init__(self, poison: int | None = None, unsteady: bool = False, **model: Any) -> None:
        self.tokenizer = tokenizer()
        self.vocab_size = self.tokenizer.size
        self.poison, self.unsteady, self.batches = poison, unsteady, 0
        self.description = {"name": "fake", "config": {}, "weights_sha256": "0" * 64, **model}

    def decisions(self, windows: Sequence[Window]) -> Decisions:
        self.batches += 1
        parts = [self.of(window.token_ids, self.batches if self.unsteady else 0) for window in windows]
        if any(self.poison in window.token_ids for window in windows):
            raise RuntimeError("the sum of\nprobabilities is not finite")
        return Decisions(*(np.concatenate(values) for values in zip(*parts, strict=True)))

    def of(self, token_ids: np.ndarray, shift: int = 0) -> tuple[np.ndarray, ...]:
        """Return ids, weights, margins, norms and bits of one window."""
        before = np.concatenate([[0], token_ids[:-1]])
        seed = (token_ids * 31 + before)[:, None] + np.array([7, 11, 13]) * 1009 + shift
        first = seed % 8
        second = (first + 1 + seed // 8 % 7) % 8
        ids = np.sort(np.stack([first, second], -1), -1)
        weights = np.stack([seed % 5 + 1, seed % 3 + 1], -1).astype(np.float32) / 8
        margins = (seed % 9 / 9.0).astype(np.float32)
        norms = np.stack([seed % 4 + 1, seed % 6 + 1], -1).astype(np.float32)
        bits = np.where(np.arange(len(token_ids)) > 0, token_ids % 12, np.nan).astype(np.float32)
        return ids, weights, margins, norms, bits
