"""One run of a session, from the click to its trace.

Streamlit may end the script at any `st.` call: when Stop is pressed, when another widget changes, when the tab closes.
The run therefore is an object that the session holds before the first step; whatever ends the script, the steps done so
far become its trace.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Generator, Hashable, Iterator

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from model.run.protocol import EngineProtocol, LocalEngineProtocol
from model.run.request import Capture, RequestError, RunRequest
from model.run.step import Progress, Step
from model.trace.trace import Trace
from pages.common import jobs, limits, live
from pages.common.jobs import Job

Steps = Generator[Step, None, Trace]


@dataclasses.dataclass(eq=False)
class Run(Job):
    """What a session shows: a run of its own, or a trace from a file (then without a request)."""

    number: int  # differs between all that a session has shown
    kind: str  # "run", "engine" (one elsewhere), "compared" (side B), "recorded" or "opened"
    request: RunRequest | None = None
    trace: Trace | None = None
    seconds: float | None = None  # of the steps, without waiting for a turn
    note: str | None = None  # what was left out of it
    _snapshot: bytes | None = None

    @property
    def waiting(self) -> bool:
        """Whether it was asked for and has not ended."""
        return self.request is not None and not self.done.is_set()

    @property
    def stopped(self) -> bool:
        """Whether it ended before it was complete."""
        return self.request is not None and self.trace is not None and not self.complete

    def refuse(self, message: str) -> None:
        """End it before it began."""
        self.error = message
        self.done.set()

    def snapshot(self) -> bytes:
        """The whole run for the lens; packed once."""
        assert self.trace is not None
        if self._snapshot is None:
            self._snapshot = live.snapshot_of(self.trace, self.number)
        return self._snapshot


def check_prompt(request: RunRequest, engine: LocalEngineProtocol) -> int:
    """How many tokens its prompt has.

    Raises:
        ValueError: it cannot be encoded, does not fit the model's context, or is longer than is run here.
    """
    number = len(engine.encode(request))
    if number > limits.PROMPT_TOKENS:
        raise RequestError(
            f"the prompt has {number:,} tokens, at most {limits.PROMPT_TOKENS:,} are run here; shorten it"
        )
    return number


def fit(run: Run, engine: LocalEngineProtocol) -> None:
    """Record what the model has: indexer and drafts where it has them, attention of all heads when it fits the cap.

    When it does not, the page says that it was left out.

    Raises:
        ValueError: as `check_prompt`.
    """
    assert run.request is not None
    if engine.disk is not None:
        run.request = dataclasses.replace(run.request, max_new_tokens=0, capture=Capture(frozenset({"router"})))
        run.note = "This model does not fit in memory: its layers are read from the disk, for the prompt only"
        check_prompt(run.request, engine)
        return
    num_tokens = check_prompt(run.request, engine) + run.request.max_new_tokens
    weights = engine.config.num_layers * engine.config.num_heads * num_tokens**2
    variables = run.request.capture.variables | ({"indexer"} if engine.config.is_sparse else set())
    variables |= {"drafts"} if engine.config.has_mtp else set()
    if weights > limits.ATTENTION_WEIGHTS:
        variables -= {"attention"}
        run.note = f"{num_tokens} tokens are too many to record all heads; the Attention page computes one at a time"
    run.request = dataclasses.replace(run.request, capture=Capture(variables))


def execute(run: Run, engine: EngineProtocol, place: DeltaGenerator) -> None:
    """Drive the run to its end in the script's own thread: every step to the lens, how far it is to `place`."""

    def work() -> None:
        assert run.request is not None
        with _told(run):
            _run(run, engine, place, live.Feed(live.header_for(engine, run.request, run.number)).follow)

    jobs.execute(run, place, work)


def execute_unseen(run: Run, place: DeltaGenerator, find: Callable[[], LocalEngineProtocol]) -> None:
    """The same for a run that no lens shows; what was run to its end for one visitor is not run again for another.

    Args:
        run: what is filled in.
        place: where its progress is shown.
        find: gives the model; what it raises is told.
    """

    def work() -> None:
        with _told(run):
            place.progress(0.0, "Loading the model")
            _recall_or_run(run, find(), place)

    jobs.execute(run, place, work)


def _recall_or_run(run: Run, engine: LocalEngineProtocol, place: DeltaGenerator) -> None:
    key = (engine.folder, str(engine.dtype), run.request)
    run.trace = _finished().get(key)
    if run.trace is None:
        _run(run, engine, place, lambda steps: steps)
    if run.trace is not None and not run.cancel.is_set():
        jobs.keep(_finished(), key, run.trace, limits.KEPT_TRACES)


@st.cache_resource(show_spinner=False)
def _finished() -> dict[Hashable, Trace]:
    """Traces of complete runs by what they depend on: folder, dtype and request."""
    return {}


@contextlib.contextmanager
def _told(run: Run) -> Iterator[None]:
    """A run that is ended from outside before it has a trace says so; one that is refused gets better words."""
    try:
        yield
    finally:
        if run.trace is None:
            run.error = "it was stopped before there was anything to show"


def _run(run: Run, engine: EngineProtocol, place: DeltaGenerator, watch: Callable[[Steps], Steps]) -> None:
    """Run it step by step; when the script is ended from outside, the steps so far become its trace."""
    assert run.request is not None
    steps = engine.stream(run.request, run.cancel, functools.partial(_show_layer, place))
    began = time.monotonic()
    try:
        run.trace = _follow(watch(steps), run.request.max_new_tokens, place)
    finally:
        if run.trace is None:
            run.stop()
            run.trace = _rest(steps)
        run.seconds = time.monotonic() - began


def _follow(steps: Steps, total: int, place: DeltaGenerator) -> Trace:
    show, began, num_prompt = jobs.paced(place), time.monotonic(), 0
    while True:
        try:
            step = next(steps)
        except StopIteration as finished:
            return finished.value
        num_prompt = num_prompt or len(step.tokens)
        new = step.start + len(step.tokens) - num_prompt
        speed = (new + num_prompt) / (time.monotonic() - began)
        show(new / total if total else 1.0, f"{new} of {total} new tokens, {speed:.0f} tokens/s")


def _show_layer(place: DeltaGenerator, progress: Progress) -> None:
    """How far a run from disk is; this too is where Streamlit may end the script."""
    done, count = progress.layers_done, progress.num_layers
    if not done:
        place.progress(0.0, "Another run of this model reads it from the disk; yours starts when that one ends")
        return
    said = f"layer {done} of {count}, {progress.bytes_read / 1e9:.2f} GB at {progress.bytes_per_second / 1e9:.2f} GB/s"
    place.progress(done / count, f"{said}, {progress.seconds_left:.0f} s left")


def _rest(steps: Steps) -> Trace | None:
    """The trace of a run whose script was ended from outside; its cancel event is set."""
    while True:
        try:
            next(steps)
        except StopIteration as finished:
            return finished.value
        except ValueError:
            return None
