"""The progress that a run reports: the tokens of each forward pass, or the finished layers.

This module does not import torch.
"""

import dataclasses
from collections.abc import Generator

import numpy as np

from model.trace.trace import Token, Trace


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """The tokens of one forward pass: first the whole prompt, then one generated token, or two if a draft was accepted.

    Attributes:
        start: index of the first new token.
        tokens: the new tokens.
        text: all text so far.
        arrays: trace variables of the new tokens; attention is [layer, head, new query, key so far]. -1
            marks experts that another server has not sent yet.
    """

    start: int
    tokens: tuple[Token, ...]
    text: bytes
    arrays: dict[str, np.ndarray]


def last(steps: Generator[Step, None, Trace]) -> Trace:
    """Run all steps and return the trace."""
    while True:
        try:
            next(steps)
        except StopIteration as finished:
            return finished.value


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run from disk."""

    layers_done: int  # 0 while another run of the model goes on
    num_layers: int
    bytes_read: int
    seconds: float

    @property
    def bytes_per_second(self) -> float:
        """Mean rate of reading so far, in bytes per second; the time includes computing."""
        return self.bytes_read / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float:
        """Estimated seconds left, if the remaining layers take as long on average as the finished layers."""
        return self.seconds / self.layers_done * (self.num_layers - self.layers_done) if self.layers_done else 0.0
