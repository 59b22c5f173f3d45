"""The protocol that the pages require of an engine, for type checkers. This module does not import torch.

`model.run.engine.Engine`, `model.families.engine.TransformersEngine` and `model.run.served.Served` satisfy it without
inheriting from it. Pages ask for abilities, never for the class of an engine.
"""

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from model.run.abilities import Abilities
from model.run.request import RunRequest
from model.run.step import Progress, Step
from model.trace.trace import Trace

if TYPE_CHECKING:
    from model.checkpoint.tokenizer import Tokenizer


class RouterLayout(Protocol):
    """The axes of a run: layers, heads, experts and groups."""

    @property
    def num_layers(self) -> int: ...
    @property
    def num_heads(self) -> int: ...
    @property
    def moe_layers(self) -> Sequence[int]:
        """Model layer numbers of the MoE layers, ascending."""
        ...

    @property
    def num_experts(self) -> int: ...
    @property
    def num_groups(self) -> int: ...
    @property
    def num_kept_groups(self) -> int: ...
    @property
    def top_k(self) -> int: ...


class ModelLayout(RouterLayout, Protocol):
    """The axes of a run, and the size of the vocabulary."""

    @property
    def vocab_size(self) -> int: ...


class StreamProtocol(Protocol):
    """Runs requests step by step."""

    def stream(
        self, request: RunRequest, cancel: threading.Event | None = ..., on_layer: Callable[[Progress], None] = ...
    ) -> Generator[Step, None, Trace]:
        """Yield the steps of a run, and return its trace. Once `cancel` is set, the run ends after the current step.

        Raises:
            ValueError: the request cannot be run; the message says why.
        """
        ...


@runtime_checkable
class EngineProtocol(StreamProtocol, Protocol):
    """An engine that runs requests, on this machine or on a server."""

    @property
    def shape(self) -> RouterLayout: ...
    @property
    def abilities(self) -> Abilities: ...


@runtime_checkable
class LocalEngineProtocol(EngineProtocol, Protocol):
    """An engine whose model is on this machine: pages can check a prompt before the run, and reuse finished runs.

    The request and the engine's `folder` and `dtype` determine the trace.
    """

    @property
    def shape(self) -> ModelLayout: ...
    @property
    def name(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    @property
    def context(self) -> int:
        """The largest number of tokens of a run."""
        ...

    @property
    def dtype(self) -> object:
        """The dtype of the weights; `str` gives its name."""
        ...

    @property
    def tokenizer(self) -> "Tokenizer | None": ...
    @property
    def description(self) -> Mapping[str, Any]:
        """The `model` entry in the traces of this engine; `weights_sha256` is None if no checksum is known."""
        ...

    def encode(self, request: RunRequest) -> list[int]:
        """Return the token ids of the request's prompt.

        Raises:
            ValueError: the prompt cannot be encoded, or the run does not fit the context.
        """
        ...

    def check(self, request: RunRequest) -> None:
        """Check that the request can be run.

        Raises:
            ValueError: it cannot; the message says why.
        """
        ...

    def run(self, request: RunRequest, cancel: threading.Event | None = ...) -> Trace:
        """Run a request to its end, or until `cancel` is set, and return the trace; see `stream`."""
        ...
