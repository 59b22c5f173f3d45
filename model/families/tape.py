"""The tape of one run through a transformers model: what the hooks of the seam record, and the edits they apply.

A context variable holds the tape, so that runs in other threads never see it. A generator must enter `running` inside
each step and leave it before it yields. The tensors stay on their device until `take` copies them to the host.

Shape suffixes: T tokens of a forward pass, C columns of the router's logits, K selected, D model width.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from model.families.attention import Attended


class RawRouting(NamedTuple):
    """The routing of one block in one forward pass, as its experts received it, in the router's own order of ranks.

    `logits_TC` is the first value that the router returned: logits, or probabilities in a few families; None if no
    module beside the experts returned any. `ids_TK` are columns of the logits: a column that the experts do not accept
    reaches them as expert 0 with weight 0 (Zaya), and keeps its number here.
    """

    logits_TC: Tensor | None
    ids_TK: Tensor
    weights_TK: Tensor


# Given a block's routing and the number of tokens before this forward pass: the routing to use instead.
Edit = Callable[[RawRouting, int], RawRouting]


class Pass(NamedTuple):
    """The tensors recorded in one forward pass, on the host.

    Attributes:
        routing: by the path of a block.
        norms: Euclidean norm of the residual stream that leaves each layer, over all its streams, [T] in fp32.
        embedding_norm: the same of the residual stream that enters layer 0, [T].
        inputs: the residual stream that enters each layer, [T, D]; D covers all streams.
        attention: by the path of an attention module.
    """

    routing: dict[str, RawRouting]
    norms: dict[int, Tensor]
    embedding_norm: Tensor | None
    inputs: dict[int, Tensor]
    attention: dict[str, Attended]


_TAPE: contextvars.ContextVar["Tape | None"] = contextvars.ContextVar("tape", default=None)


def current() -> "Tape | None":
    """Return the tape of the run that calls the model in this thread."""
    return _TAPE.get()


@dataclasses.dataclass(eq=False)
class Tape:
    """The tape of one run; batch size 1.

    Attributes:
        edits: changes of the routing, by the path of a block.
        attention: paths of the attention modules whose weights are recorded.
        routing, norms, inputs: whether to record the routing, the residual norms and the layer inputs.
        position: number of tokens in the passes that `take` has returned.
    """

    edits: Mapping[str, Edit] = dataclasses.field(default_factory=dict)
    attention: Collection[str] = frozenset()
    routing: bool = True
    norms: bool = True
    inputs: bool = False
    position: int = 0
    _rows: int = 0
    _recorded: dict[str, dict[Any, Any]] = dataclasses.field(default_factory=dict)
    _logits: dict[str, Tensor] = dataclasses.field(default_factory=dict)  # of routers whose experts come next

    @contextlib.contextmanager
    def running(self) -> Iterator["Tape"]:
        """Give this tape to every instrumented model that this thread calls inside the block."""
        token = _TAPE.set(self)
        try:
            yield self
        finally:
            _TAPE.reset(token)

    def take(self) -> Pass:
        """Return what the last forward pass recorded, on the host, and remove it from the tape."""
        recorded, self._recorded = self._recorded, {}
        self.position, self._rows = self.position + self._rows, 0
        self._logits.clear()
        host = iter(_on_host(list(_tensors(recorded))))
        parts = {kind: {key: _replaced(value, host) for key, value in by.items()} for kind, by in recorded.items()}
        embedding = parts.pop("embedding", {}).get(0)
        return Pass(
            parts.get("routing", {}), parts.get("norms", {}), embedding, parts.get("inputs", {}),
            parts.get("attention", {}),
        )  # fmt: skip

    def record(self, kind: str, key: Any, value: Any) -> None:
        """Keep a tensor or a tuple of tensors; for the hooks.

        Raises:
            RuntimeError: the last forward pass recorded this too, and `take` was not called since.
        """
        by_key = self._recorded.setdefault(kind, {})
        if key in by_key:
            raise RuntimeError(f"{kind} of {key} was recorded twice: take the last pass from the tape before the next")
        by_key[key] = value

    def decided(self, path: str, logits_TC: Tensor, sure: bool) -> None:
        """Keep a router's logits until its experts are called; those that are `sure` replace others."""
        if sure or path not in self._logits:
            self._logits[path] = logits_TC

    def logits_of(self, path: str) -> Tensor | None:
        """Return and remove the logits that `decided` kept; for the hooks."""
        return self._logits.pop(path, None)

    def edited(self, path: str, raw: RawRouting) -> RawRouting:
        """Return the routing after the edit of its block, the same object if there is none; for the hooks."""
        self._rows = len(raw.ids_TK)
        edit = self.edits.get(path)
        return raw if edit is None else edit(raw, self.position)


def _tensors(recorded: Mapping[str, Mapping[Any, Any]]) -> Iterator[Tensor]:
    for by_key in recorded.values():
        for value in by_key.values():
            parts = (value,) if isinstance(value, Tensor) else value
            yield from (part for part in parts if part is not None)


def _replaced(value: Any, tensors: Iterator[Tensor]) -> Any:
    if isinstance(value, Tensor):
        return next(tensors)
    return type(value)(*(None if part is None else next(tensors) for part in value))


def _on_host(tensors: list[Tensor]) -> list[Tensor]:
    """Return the tensors on the CPU, with one copy per device and dtype."""
    groups: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for index, tensor in enumerate(tensors):
        if tensor.device.type != "cpu":
            groups.setdefault((tensor.device, tensor.dtype), []).append(index)
    host = list(tensors)
    for indices in groups.values():
        flat = torch.cat([tensors[index].reshape(-1) for index in indices]).cpu()
        for index, part in zip(indices, flat.split([tensors[index].numel() for index in indices]), strict=True):
            host[index] = part.view(tensors[index].shape)
    return host
