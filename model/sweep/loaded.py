"""A loaded model with what the routing of every shard needs beside it."""

import dataclasses

import numpy as np

from model.sweep.classes import TokenClasses
from model.sweep.settings import Settings
from model.sweep.source import Source


@dataclasses.dataclass(frozen=True, eq=False)
class Loaded:
    """A loaded model.

    Attributes:
        settings: the planned sweep.
        source: the model.
        window: largest number of tokens of a run.
        classes: the token classes of its vocabulary.
        token_ids: the tokens that are counted per expert.
        column_V: token id -> its place in `token_ids`; -1: it is not counted.
    """

    settings: Settings
    source: Source
    window: int
    classes: TokenClasses
    token_ids: np.ndarray
    column_V: np.ndarray


def prepare(settings: Settings, source: Source) -> Loaded:
    """Return a loaded model with what the routing of a planned sweep needs."""
    token_ids = np.array(range(source.vocab_size) if settings.token_ids is None else settings.token_ids, np.int32)
    column_V = np.full(source.vocab_size, -1, np.int64)
    column_V[token_ids] = np.arange(len(token_ids))
    window = window_length(settings, source.context)
    return Loaded(settings, source, window, TokenClasses(source.tokenizer, source.vocab_size), token_ids, column_V)


def window_length(settings: Settings, context: int) -> int:
    """Return the largest number of tokens of a run: that of the settings, at most the model's context."""
    return min(settings.window or context, context)
