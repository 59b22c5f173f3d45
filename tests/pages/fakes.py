"""An engine for page tests: it replays a random trace step by step, without torch."""

import dataclasses
import threading
from collections.abc import Callable, Generator
from pathlib import Path

from model.run.abilities import Abilities
from model.run.protocol import LocalEngineProtocol
from model.run.request import CAPTURE_NAMES, RequestError, RunRequest
from model.run.step import Progress, Step
from model.trace.trace import DIMS, TOKEN_DIMS, Trace
from tests.traces import random_trace


@dataclasses.dataclass(frozen=True)
class FakeShape:
    """The layout of `random_trace`."""

    num_layers: int = 3
    num_heads: int = 2
    moe_layers: tuple[int, ...] = (1, 2)
    num_experts: int = 8
    num_groups: int = 4
    num_kept_groups: int = 2
    top_k: int = 2
    vocab_size: int = 64


class FakeEngine:
    """Runs any prompt as six prompt tokens and the new ones that were asked for."""

    shape = FakeShape()
    abilities: Abilities = Abilities(captures=frozenset(CAPTURE_NAMES) - {"indexer", "drafts"})
    name, context, description, tokenizer = "fake", 64, {"weights_sha256": None}, None

    def __init__(self, on_step: Callable[[int, threading.Event | None], None] = lambda step, cancel: None) -> None:
        self.on_step = on_step
        self.requests: list[RunRequest] = []

    folder, dtype = Path("fake"), "float32"

    def encode(self, request: RunRequest) -> list[int]:
        if "�" in (request.prompt or ""):
            raise RequestError("the prompt cannot be encoded")
        return [0] * 6

    def check(self, request: RunRequest) -> None:
        self.encode(request)

    def run(self, request: RunRequest, cancel: threading.Event | None = None) -> Trace:
        raise NotImplementedError

    def stream(
        self,
        request: RunRequest,
        cancel: threading.Event | None = None,
        on_layer: Callable[[Progress], None] = lambda progress: None,
    ) -> Generator[Step, None, Trace]:
        self.encode(request)
        self.requests.append(request)
        if not self.abilities.new_tokens:
            self._read_layers(cancel, on_layer)
        whole, count = random_trace(seed=request.seed, num_new=request.max_new_tokens), 6
        yield step_of(whole, 0, 6)
        while count < whole.num_tokens:
            self.on_step(count, cancel)
            if cancel is not None and cancel.is_set():
                break
            yield step_of(whole, count, count + 1)
            count += 1
        return cut(whole, count)

    def _read_layers(self, cancel: threading.Event | None, on_layer: Callable[[Progress], None]) -> None:
        for layer in range(self.shape.num_layers):
            self.on_step(layer, cancel)
            if cancel is not None and cancel.is_set():
                raise RequestError(f"stopped after {layer} of {self.shape.num_layers} layers")
            on_layer(Progress(layer + 1, self.shape.num_layers, bytes_read=1, seconds=1.0))


_: LocalEngineProtocol = FakeEngine()  # pyright holds the fake against what the pages use


def step_of(trace: Trace, start: int, end: int) -> Step:
    tokens = trace.tokens[start:end]
    arrays = {}
    for name, values in trace.data.data_vars.items():
        if DIMS[str(name)][0] == "token":
            arrays[str(name)] = values.values[start:end]
    arrays["attention"] = trace.data["attention"].values[:, :, start:end, :end]
    return Step(start, tokens, trace.text[: tokens[-1].end], arrays)


def cut(trace: Trace, count: int) -> Trace:
    data = trace.data.isel({dim: slice(count) for dim in TOKEN_DIMS if dim in trace.data.dims})
    tokens = trace.tokens[:count]
    return dataclasses.replace(trace, data=data.copy(deep=True), tokens=tokens, text=trace.text[: tokens[-1].end])
