"""Jobs of a session. Each waits for its turn and runs once; it can be stopped, and keeps its partial result.

A job runs in the thread of the page's script, where Streamlit may end it at any `st.` call, or in its own thread, which
`Job.stop` ends. After `stop_with_tab`, the job also ends when the visitor closes the tab.
"""

import dataclasses
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.common import limits

if TYPE_CHECKING:
    from model.run.engine import Engine

SECONDS_BETWEEN_PROGRESS = 0.2
TURNS = threading.Semaphore(limits.CONCURRENT_RUNS)  # all visitors wait in one queue for all kinds of job
Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclasses.dataclass(eq=False, kw_only=True)
class Job:
    """The state of a job; a subclass adds its request and result."""

    error: str | None = None  # why there is no result; None while there is no error
    complete: bool = False
    cancel: threading.Event = dataclasses.field(default_factory=threading.Event)
    done: threading.Event = dataclasses.field(default_factory=threading.Event)
    _claimed: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    @property
    def waiting(self) -> bool:
        """Whether the job has not ended yet: it waits for its turn, or runs."""
        return not self.done.is_set()

    def claim(self) -> bool:
        """Return True to the first caller, who must run the job, and False to every later caller."""
        return self._claimed.acquire(blocking=False)

    def stop(self) -> None:
        """Ask the job to end before its next step; asking again is harmless."""
        self.cancel.set()


def execute(job: Job, placeholder: DeltaGenerator, work: Callable[[], None]) -> None:
    """Run a job to its end in the thread of the page's script.

    If an older script, which Streamlit is about to end, runs the job already, stop it there and wait for its end.

    Args:
        job: the job, which `work` fills in.
        placeholder: shows that other jobs run first; a visitor who leaves the page meanwhile loses the turn.
        work: runs the job until it is done or `job.cancel` is set.
    """
    if not job.claim():
        job.stop()
        job.done.wait(timeout=30)
        return
    message = f"{limits.CONCURRENT_RUNS} other runs are going on; yours starts when one of them ends"
    _run(job, work, lambda: placeholder.progress(0.0, message))


def execute_on(
    job: Job, placeholder: DeltaGenerator, find: Callable[[], "Engine"], work: Callable[["Engine"], None]
) -> None:
    """Run a job in the thread of the page's script on the model that `find` returns; `find` may load it first."""

    def load_and_work() -> None:
        placeholder.progress(0.0, "Loading the model")
        work(find())

    execute(job, placeholder, load_and_work)


def begin(job: Job, work: Callable[[], None]) -> None:
    """Start a job in its own thread, which goes on after the script has ended."""
    threading.Thread(target=_run, args=(job, work, lambda: None), daemon=True).start()


def stop_with_tab(job: Job) -> None:
    """Stop the job when this session ends, because nobody can see its result any more."""
    _of_session().add(job)


def _stop_all(jobs: "weakref.WeakSet[Job]") -> None:
    for job in jobs:
        job.stop()


@st.cache_resource(scope="session", show_spinner=False, on_release=_stop_all)
def _of_session() -> "weakref.WeakSet[Job]":
    """Return the jobs that end with this session; Streamlit releases them when the visitor closes the tab."""
    return weakref.WeakSet()


def _run(job: Job, work: Callable[[], None], on_wait: Callable[[], object]) -> None:
    """Run a job when its turn comes; an exception becomes the job's error."""
    turns, has_turn = TURNS, False
    try:
        while not job.cancel.is_set() and not (has_turn := turns.acquire(timeout=0.2)):
            on_wait()
        if has_turn:
            work()
            job.complete = not job.cancel.is_set()
    except (ValueError, OSError) as error:
        job.error = str(error)
    except (MemoryError, RuntimeError) as error:  # torch raises RuntimeError for lack of memory and for much else
        job.error = failure(error)
    finally:
        if has_turn:
            turns.release()
        else:
            job.error = job.error or "it was stopped before its turn came"
        job.stop()
        job.done.set()


def failure(error: Exception) -> str:
    """Return one line for the visitor about an exception that ended a computation."""
    message = str(error).strip()
    if isinstance(error, MemoryError) or "memory" in message:
        return "the machine ran out of memory; use a shorter text or a smaller model"
    return f"the computation failed: {message.splitlines()[0] if message else type(error).__name__}"


def paced(placeholder: DeltaGenerator) -> Callable[[float, str], None]:
    """Return a function that shows a share and a message as progress, at most five times a second.

    Streamlit may end the script inside a call of the returned function.
    """
    due = 0.0

    def show(share: float, message: str) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + SECONDS_BETWEEN_PROGRESS
            placeholder.progress(share, message)

    return show


def keep(cache: dict[Key, Value], key: Key, value: Value, most: int) -> None:
    """Put a value into a cache as its newest entry, and drop the oldest entries beyond `most`."""
    cache.pop(key, None)
    cache[key] = value
    for old in list(cache)[:-most]:
        cache.pop(old, None)
