"""One computation of a request, followed by all runs of the same request that go on meanwhile.

The thread of one run draws the engine's steps; the others wait. If that run is stopped, another thread goes on. The
computation ends early once all its runs are stopped.
"""

import functools
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, Protocol, TypeVar

from model.run.protocol import StreamProtocol
from model.run.request import RequestError, RunRequest
from model.run.step import Progress, Step, last
from model.run.turns import PASSES
from model.trace.trace import Trace

SECONDS_BETWEEN_CHECKS = 0.1  # at which a run that follows checks whether it was stopped
_LOCK = threading.Lock()  # guards which run follows which computation
IN_FLIGHT: "dict[Hashable, Computation]" = {}


class Follower(Protocol):
    """A run that follows a computation; setting `cancel` stops this run only.

    Attributes:
        cancel: is set to stop the run.
        abandoned: whether nobody will see the run, because its tab was closed or another run took its place.
    """

    cancel: threading.Event
    abandoned: bool


Run = TypeVar("Run", bound=Follower)


class Computation(Generic[Run]):
    """The steps of one request, and their trace.

    Attributes:
        runs: the runs that follow or followed.
        num_prompt, num_tokens: number of tokens of the first step, and of all steps so far.
        blocks: the steps so far, packed.
        began: when the computation began, by the monotonic clock.
        seconds: time of the steps, without waits for a turn.
        trace: the trace, once the computation has ended without an error.
    """

    def __init__(
        self,
        request: RunRequest,
        engine: StreamProtocol,
        pack: Callable[[Step], bytes],
        on_step: "Callable[[Computation[Run]], None]",
        on_layer: "Callable[[list[Run], Progress], None]",
    ) -> None:
        """Prepare the computation of a request.

        Args:
            request: the request.
            engine: the engine.
            pack: packs a step for `blocks`.
            on_step: called after each step.
            on_layer: called after each layer of a run from disk, with the runs that follow.
        """
        self.runs: list[Run] = []
        self.blocks: list[bytes] = []
        self.num_tokens, self.num_prompt, self.seconds, self.began = 0, 0, 0.0, time.monotonic()
        self.trace: Trace | None = None
        self._key: Hashable = None
        self._error: Exception | None = None
        self._cancel, self._ended, self._drawing = _AllStopped(self.runs), threading.Event(), threading.Lock()
        self._pack, self._on_step = pack, on_step
        self._stream = functools.partial(engine.stream, request)
        self._steps = self._stream(self._cancel, lambda progress: on_layer(self.runs, progress))

    def join(self, run: Run, key: Hashable) -> "Computation[Run]":
        """Return the computation that a run follows: the one in flight with this key, else this one.

        If the key is None, the computation is not shared.
        """
        with _LOCK:
            other = IN_FLIGHT.get(key)
            computation = self if key is None or other is None or other._is_over else other
            if key is not None:
                IN_FLIGHT[key] = computation
            computation._key = key
            computation.runs.append(run)
            return computation

    @property
    def _is_over(self) -> bool:
        return self._ended.is_set() or self._cancel.was_set

    def follow(self, run: Run) -> tuple[Trace, float]:
        """Wait for the end, and draw the steps unless another run's thread does; return the trace and its seconds.

        If the run is stopped while others go on, its first tokens are computed again, for a trace of their own; if it
        is abandoned, nothing is.

        Raises:
            ValueError, RuntimeError, OSError: the engine could not run the request.
            RequestError: the run was stopped before its first step, or is abandoned while others go on.
        """
        while not self._ended.is_set():
            if self._drawing.acquire(timeout=SECONDS_BETWEEN_CHECKS):
                try:
                    self._draw(run)
                finally:
                    self._drawing.release()
            if run.cancel.is_set() and not self._ended.is_set() and not self._cancel.is_set():
                return self._first(0 if run.abandoned else self.num_tokens)
        if self._error is not None:
            raise self._error
        assert self.trace is not None
        return self.trace, self.seconds

    def _first(self, num_tokens: int) -> tuple[Trace, float]:
        """Return the trace of the first tokens, computed again, and its seconds."""
        if not num_tokens:
            raise RequestError("it was stopped before its first step")
        cut, began = threading.Event(), time.monotonic()
        steps = self._stream(cut)
        for step in steps:
            if step.start + len(step.tokens) >= num_tokens:
                cut.set()
                break
        return last(steps), time.monotonic() - began

    def _draw(self, run: Run) -> None:
        """Draw steps until the end, or until the run is stopped and others go on."""
        while not (self._ended.is_set() or run.cancel.is_set() and not self._cancel.is_set()):
            began, waited = time.monotonic(), PASSES.seconds_waited
            try:
                self._take(next(self._steps))
            except StopIteration as finished:
                self._end(finished.value)
            except Exception as error:
                self._end(error=error)
            self.seconds += time.monotonic() - began - (PASSES.seconds_waited - waited)

    def _take(self, step: Step) -> None:
        self.num_tokens = step.start + len(step.tokens)
        self.num_prompt = self.num_prompt or self.num_tokens
        self.blocks.append(self._pack(step))
        self._on_step(self)

    def _end(self, trace: Trace | None = None, error: Exception | None = None) -> None:
        self.trace, self._error = trace, error
        with _LOCK:
            if IN_FLIGHT.get(self._key) is self:
                del IN_FLIGHT[self._key]
        self._ended.set()


class _AllStopped(threading.Event):
    """Is set once all runs of a computation are stopped; from then on, no run can join it."""

    def __init__(self, runs: Sequence[Follower]) -> None:
        super().__init__()
        self._runs, self.was_set = runs, False

    def is_set(self) -> bool:
        with _LOCK:
            self.was_set = self.was_set or all(run.cancel.is_set() for run in self._runs)
            return self.was_set

    def set(self) -> None:
        for run in self._runs:
            run.cancel.set()
