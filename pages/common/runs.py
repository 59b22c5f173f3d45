"""One run of a session, from the click to its trace.

Streamlit may end the script at any `st.` call: when the visitor presses Stop, changes another widget or closes the tab.
The session therefore holds the run as an object before its first step. Whatever ends the script, the steps done so far
become the run's trace.
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
    """A run of the session, or a trace from a file; a trace from a file has no request."""

    number: int  # unique among the runs of the server
    kind: str  # "run", "engine" (on a serving engine), "compared" (side B), "recorded" or "opened"
    request: RunRequest | None = None
    trace: Trace | None = None
    seconds: float | None = None  # time of the steps, without the wait for a turn
    note: str | None = None  # what the run does not record, and why
    _snapshot: bytes | None = None

    @property
    def waiting(self) -> bool:
        """Whether the run has a request and has not ended."""
        return self.request is not None and not self.done.is_set()

    @property
    def stopped(self) -> bool:
        """Whether the run ended before it was complete, with a trace of its finished steps."""
        return self.request is not None and self.trace is not None and not self.complete

    def refuse(self, message: str) -> None:
        """End the run before its first step, with `message` as its error."""
        self.error = message
        self.done.set()

    def snapshot(self) -> bytes:
        """Return the whole run as a message for the lens, which is packed once."""
        assert self.trace is not None
        if self._snapshot is None:
            self._snapshot = live.snapshot_of(self.trace, self.number)
        return self._snapshot


def check_prompt(request: RunRequest, engine: LocalEngineProtocol) -> int:
    """Return the number of tokens of a request's prompt.

    Raises:
        ValueError: the prompt cannot be encoded, does not fit the model's context, or exceeds the limit.
    """
    number = len(engine.encode(request))
    if number > limits.PROMPT_TOKENS:
        raise RequestError(
            f"the prompt has {number:,} tokens, at most {limits.PROMPT_TOKENS:,} are run here; shorten it"
        )
    return number


def fit(run: Run, engine: LocalEngineProtocol) -> None:
    """Let the run record the indexer and drafts if the model has them, and attention if its size is within the limit.

    `run.note` says what is not recorded.

    Raises:
        ValueError: the prompt cannot be run; see `check_prompt`.
    """
    assert run.request is not None
    if engine.disk is not None:
        run.request = dataclasses.replace(run.request, max_new_tokens=0, capture=Capture(frozenset({"router"})))
        run.note = "This model does not fit in memory: its layers are read from the disk, and it generates no tokens"
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


def execute(run: Run, engine: EngineProtocol, placeholder: DeltaGenerator) -> None:
    """Execute a run in the thread of the page's script; the lens shows its steps, `placeholder` its progress."""

    def work() -> None:
        assert run.request is not None
        with _default_error(run):
            _run(run, engine, placeholder, live.Feed(live.header_for(engine, run.request, run.number)).follow)

    jobs.execute(run, placeholder, work)


def execute_unseen(run: Run, placeholder: DeltaGenerator, find: Callable[[], LocalEngineProtocol]) -> None:
    """Execute a run without a lens; if another visitor has completed the same request, take the trace of that run.

    Args:
        run: receives the trace or the error.
        placeholder: shows the progress.
        find: returns the model; an exception that it raises becomes the run's error.
    """

    def work() -> None:
        with _default_error(run):
            placeholder.progress(0.0, "Loading the model")
            _recall_or_run(run, find(), placeholder)

    jobs.execute(run, placeholder, work)


def _recall_or_run(run: Run, engine: LocalEngineProtocol, placeholder: DeltaGenerator) -> None:
    key = (engine.folder, str(engine.dtype), run.request)
    run.trace = _finished().get(key)
    if run.trace is None:
        _run(run, engine, placeholder, lambda steps: steps)
    if run.trace is not None and not run.cancel.is_set():
        jobs.keep(_finished(), key, run.trace, limits.KEPT_TRACES)


@st.cache_resource(show_spinner=False)
def _finished() -> dict[Hashable, Trace]:
    """Return the complete traces by (model folder, dtype, request)."""
    return {}


@contextlib.contextmanager
def _default_error(run: Run) -> Iterator[None]:
    """Set a default error if the run ends without a trace; the message of an exception overwrites it later."""
    try:
        yield
    finally:
        if run.trace is None:
            run.error = "it was stopped before there was anything to show"


def _run(run: Run, engine: EngineProtocol, placeholder: DeltaGenerator, watch: Callable[[Steps], Steps]) -> None:
    """Run step by step. If Streamlit ends the script, the steps so far become the trace.

    `watch` wraps the steps, for example to send them to the lens.
    """
    assert run.request is not None
    steps = engine.stream(run.request, run.cancel, functools.partial(_show_layer, placeholder))
    began = time.monotonic()
    try:
        run.trace = _follow(watch(steps), run.request.max_new_tokens, placeholder)
    finally:
        if run.trace is None:
            run.stop()
            run.trace = _rest(steps)
        run.seconds = time.monotonic() - began


def _follow(steps: Steps, total: int, placeholder: DeltaGenerator) -> Trace:
    show, began, num_prompt = jobs.paced(placeholder), time.monotonic(), 0
    while True:
        try:
            step = next(steps)
        except StopIteration as finished:
            return finished.value
        num_prompt = num_prompt or len(step.tokens)
        new = step.start + len(step.tokens) - num_prompt
        speed = (new + num_prompt) / (time.monotonic() - began)
        show(new / total if total else 1.0, f"{new} of {total} new tokens, {speed:.0f} tokens/s")


def _show_layer(placeholder: DeltaGenerator, progress: Progress) -> None:
    """Show the progress of a run from disk. Streamlit may end the script in this call too."""
    done, count = progress.layers_done, progress.num_layers
    if not done:
        placeholder.progress(0.0, "Another run of this model reads it from the disk; yours starts when that one ends")
        return
    read = f"{progress.bytes_read / 1e9:.2f} GB at {progress.bytes_per_second / 1e9:.2f} GB/s"
    placeholder.progress(done / count, f"layer {done} of {count}, {read}, {progress.seconds_left:.0f} s left")


def _rest(steps: Steps) -> Trace | None:
    """Return the trace of a cancelled run: the steps until it ends; None if it raises ValueError."""
    while True:
        try:
            next(steps)
        except StopIteration as finished:
            return finished.value
        except ValueError:
            return None
