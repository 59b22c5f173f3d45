"""Work that a session asked for: done once, when its turn comes, stopped from outside, and kept with what was done.

It is done in the script's own thread, where Streamlit may end it at any `st.` call, or in a thread of its own, which
`Job.stop` ends, and the closing of the tab where `stop_with_tab` was asked for.
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
TURNS = threading.Semaphore(limits.CONCURRENT_RUNS)  # one queue for all visitors, whatever they run
Key = TypeVar("Key")
Kept = TypeVar("Kept")


@dataclasses.dataclass(eq=False, kw_only=True)
class Job:
    """The state of one; whoever does it fills in the rest."""

    error: str | None = None  # why there is nothing to show
    complete: bool = False
    cancel: threading.Event = dataclasses.field(default_factory=threading.Event)
    done: threading.Event = dataclasses.field(default_factory=threading.Event)
    _claimed: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    @property
    def waiting(self) -> bool:
        """Whether it has not ended."""
        return not self.done.is_set()

    def claim(self) -> bool:
        """Whether the caller is the one to do it; True once."""
        return self._claimed.acquire(blocking=False)

    def stop(self) -> None:
        """Ask it to end before its next step; again is harmless."""
        self.cancel.set()


def execute(job: Job, place: DeltaGenerator, work: Callable[[], None]) -> None:
    """Drive a job to its end in the script's own thread.

    A script that finds it going on in an older thread, which Streamlit is about to end, only waits for that.

    Args:
        job: what `work` fills in.
        place: where a visitor is told to wait for a turn; one who leaves meanwhile gives it up.
        work: does it, until it is done or `job.cancel` is set.
    """
    if not job.claim():
        job.stop()
        job.done.wait(timeout=30)
        return
    said = f"{limits.CONCURRENT_RUNS} runs are going on; yours starts when one of them ends"
    _do(job, work, lambda: place.progress(0.0, said))


def execute_on(job: Job, place: DeltaGenerator, find: Callable[[], "Engine"], work: Callable[["Engine"], None]) -> None:
    """The same for work on a model that `find` gives, and may have to load first."""

    def load_and_work() -> None:
        place.progress(0.0, "Loading the model")
        work(find())

    execute(job, place, load_and_work)


def begin(job: Job, work: Callable[[], None]) -> None:
    """Do a job in a thread of its own, which goes on whatever becomes of the script."""
    threading.Thread(target=_do, args=(job, work, lambda: None), daemon=True).start()


def stop_with_tab(job: Job) -> None:
    """Stop the job when this session ends, as what the script itself does would be: nobody sees it any more."""
    _of_session().add(job)


def _stop_all(jobs: "weakref.WeakSet[Job]") -> None:
    for job in jobs:
        job.stop()


@st.cache_resource(scope="session", show_spinner=False, on_release=_stop_all)
def _of_session() -> "weakref.WeakSet[Job]":
    """Those that end with this session; Streamlit releases it when the tab is closed."""
    return weakref.WeakSet()


def _do(job: Job, work: Callable[[], None], on_wait: Callable[[], object]) -> None:
    """Do it when its turn comes; what goes wrong becomes its error."""
    turns, has_turn = TURNS, False
    try:
        while not job.cancel.is_set() and not (has_turn := turns.acquire(timeout=0.2)):
            on_wait()
        if has_turn:
            work()
            job.complete = not job.cancel.is_set()
    except (ValueError, OSError) as problem:
        job.error = str(problem)
    except (MemoryError, RuntimeError) as problem:  # torch says both of memory and of much else by a RuntimeError
        job.error = failure(problem)
    finally:
        if has_turn:
            turns.release()
        else:
            job.error = job.error or "it was stopped before its turn came"
        job.stop()
        job.done.set()


def failure(problem: Exception) -> str:
    """What a visitor is told of a computation that ended so, on one line."""
    said = str(problem).strip()
    if isinstance(problem, MemoryError) or "memory" in said:
        return "the machine ran out of memory; use a shorter text or a smaller model"
    return f"the computation failed: {said.splitlines()[0] if said else type(problem).__name__}"


def paced(place: DeltaGenerator) -> Callable[[float, str], None]:
    """Shows progress in a place a few times a second; this is where Streamlit may end the script."""
    due = 0.0

    def show(share: float, said: str) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + SECONDS_BETWEEN_PROGRESS
            place.progress(share, said)

    return show


def keep(kept: dict[Key, Kept], key: Key, value: Kept, most: int) -> None:
    """Put a value in place of one of the same key; the oldest go when there are more than `most`."""
    kept.pop(key, None)
    kept[key] = value
    for old in list(kept)[:-most]:
        kept.pop(old, None)
