"""One run of a session, from the click to its trace.

Streamlit may end the script at any `st.` call: when Stop is pressed, when another widget changes, when the tab closes.
The run therefore is an object that the session holds before the first step; whatever ends the script, the steps done so
far become its trace.
"""

import contextlib
import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from model.run.request import Capture, RunRequest
from model.trace.trace import Trace
from pages.common import limits, live
from pages.common.jobs import Job

if TYPE_CHECKING:
    from model.run.engine import Engine, Step
    from model.run.from_disk import Progress

SECONDS_BETWEEN_PROGRESS = 0.2
Steps = Generator["Step", None, Trace]


@dataclasses.dataclass(eq=False)
class Run(Job):
    """What a session shows: a run of its own, or a trace from a file (then without a request)."""

    number: int  # differs between all that a session has shown
    kind: str  # "run", "engine" (one elsewhere), "recorded" or "opened"
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


def fit(run: Run, engine: "Engine") -> None:
    """Record what the model has: indexer and drafts where it has them, attention of all heads when it fits the cap.

    When it does not, the page says that it was left out.

    Raises:
        ValueError: the prompt cannot be encoded, or does not fit the model's context.
    """
    assert run.request is not None
    if engine.disk is not None:
        run.request = dataclasses.replace(run.request, max_new_tokens=0, capture=Capture(frozenset({"router"})))
        run.note = "This model does not fit in memory: its layers are read from the disk, for the prompt only"
        engine.encode(run.request)
        return
    num_tokens = len(engine.encode(run.request)) + run.request.max_new_tokens
    weights = engine.config.num_layers * engine.config.num_heads * num_tokens**2
    variables = run.request.capture.variables | ({"indexer"} if engine.config.is_sparse else set())
    variables |= {"drafts"} if engine.config.has_mtp else set()
    if weights > limits.ATTENTION_WEIGHTS:
        variables -= {"attention"}
        run.note = f"{num_tokens} tokens are too many to record all heads; the Attention page computes one at a time"
    run.request = dataclasses.replace(run.request, capture=Capture(variables))


def execute(run: Run, engine: "Engine", place: DeltaGenerator) -> None:
    """Drive the run to its end in the script's own thread, showing every step in the lens and its progress in `place`.

    A script that finds the run going on in an older thread, which Streamlit is about to end, only waits for that.
    """
    if not run.claim():
        run.stop()
        run.done.wait(timeout=30)
        return
    assert run.request is not None
    steps = engine.stream(run.request, run.cancel, functools.partial(_show_layer, place))
    began: float | None = None
    try:
        with turn(place):
            began = time.monotonic()
            run.trace = _follow(run, engine, steps, place)
            run.complete = not run.cancel.is_set()
    except ValueError as problem:  # refused before the first step: the request, the text or an edit
        run.error = str(problem)
    except MemoryError:
        run.error = "the machine ran out of memory; shorten the prompt or ask for fewer tokens"
    finally:
        run.stop()
        if began is None:
            run.error = run.error or "it was stopped before its turn came"
        else:
            run.trace = run.trace if run.trace or run.error else _rest(steps)
            run.seconds = time.monotonic() - began
        run.done.set()


def execute_on(job: Job, place: DeltaGenerator, find: Callable[[], "Engine"], work: Callable[["Engine"], None]) -> None:
    """Drive a job that is no run of its own to its end, in the script's own thread, as `execute` does with a run.

    Args:
        job: what is filled in by `work`.
        place: where its progress is shown.
        find: gives the model; what it raises is told.
        work: does it, until it is done or `job.cancel` is set.
    """
    if not job.claim():
        job.stop()
        job.done.wait(timeout=30)
        return
    try:
        place.progress(0.0, "Loading the model")
        engine = find()
        with turn(place):
            work(engine)
        job.complete = not job.cancel.is_set()
    except ValueError as problem:
        job.error = str(problem)
    except MemoryError:
        job.error = "the machine ran out of memory; use a shorter text"
    finally:
        job.stop()
        job.done.set()


def _follow(run: Run, engine: "Engine", steps: Steps, place: DeltaGenerator) -> Trace:
    assert run.request is not None
    feed = live.Feed(live.header_for(engine, run.request, run.number))
    follower, began, shown, num_prompt = feed.follow(steps), time.monotonic(), 0.0, 0
    while True:
        try:
            step = next(follower)
        except StopIteration as finished:
            return finished.value
        num_prompt = num_prompt or len(step.tokens)
        now, total = time.monotonic(), run.request.max_new_tokens
        if now - shown > SECONDS_BETWEEN_PROGRESS:
            shown, new = now, step.start + len(step.tokens) - num_prompt
            said = f"{new} of {total} new tokens, {(new + num_prompt) / (now - began):.0f} tokens/s"
            place.progress(new / total if total else 1.0, said)


def _show_layer(place: DeltaGenerator, progress: "Progress") -> None:
    """How far a run from disk is; this too is where Streamlit may end the script."""
    done, count = progress.layers_done, progress.num_layers
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


@st.cache_resource(show_spinner=False)
def _turns() -> threading.Semaphore:
    return threading.Semaphore(limits.CONCURRENT_RUNS)


@contextlib.contextmanager
def turn(place: DeltaGenerator) -> Iterator[None]:
    """Wait for one of the places to run; a visitor who leaves meanwhile gives up theirs."""
    turns = _turns()
    while not turns.acquire(timeout=0.2):
        place.progress(0.0, f"{limits.CONCURRENT_RUNS} runs are going on; yours starts when one of them ends")
    try:
        yield
    finally:
        turns.release()
