"""Jobs of a session. Each runs once, takes turns on the processor with other visitors' jobs, and can be stopped.

A job runs in its own thread. It goes on when the visitor opens another page. It ends when its work is done, when
`Job.stop` is called, or when the visitor closes the tab. A page's script shows its progress with `follow`; Streamlit
may end that script at any time, and the job goes on. The work of a job is a function that reads no session state and
calls nothing of `st`.

Every forward pass takes a turn (`model/run/turns.py`), fair by visitor. Large jobs, which hold models or big arrays in
memory, first wait until few enough are going on.
"""

import contextlib
import dataclasses
import functools
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from model.run.request import RequestError
from model.run.turns import PASSES, Turns
from pages.common import limits

_LOGGER = logging.getLogger(__name__)
POLLS_PER_SECOND = 10  # how often a script looks at its job
ALL_POLLS_PER_SECOND = 60  # of all scripts together: with more visitors, each looks less often and finds more tokens
TURNS = Turns(limits.CONCURRENT_RUNS)  # for large jobs
Key = TypeVar("Key")
Value = TypeVar("Value")
GOING: "set[Job]" = set()
FOLLOWERS: set[int] = set()  # threads of the scripts that follow a job
PAGES = Turns(2)  # for page scripts; more at once only make each other, and all runs, wait for the interpreter
SECONDS_FOR_A_PAGE = 0.05  # after which a page is drawn without a turn: others may be slow


@dataclasses.dataclass(eq=False, kw_only=True)
class Job:
    """The state of a job; a subclass adds its request and result."""

    error: str | None = None  # why there is no result; None while there is no error
    complete: bool = False
    orphaned: bool = False  # whether it was stopped because its tab was closed or reloaded
    abandoned: bool = False  # whether nobody will see it: its tab was closed, or another run took its place
    place: int = 0  # in the queue of forward passes, 1 is the next; 0 unless it has to wait for a while
    visitor: "Visitor | None" = None  # whose turns it takes; None: the job counts as a visitor of its own
    cancel: threading.Event = dataclasses.field(default_factory=threading.Event)
    done: threading.Event = dataclasses.field(default_factory=threading.Event)
    _claimed: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    _reported: tuple[float, str] = (0.0, "")  # share and message

    @property
    def waiting(self) -> bool:
        """Whether the job has not ended yet: it waits for its turn, or runs."""
        return not self.done.is_set()

    @property
    def is_large(self) -> bool:
        """Whether it waits while `limits.CONCURRENT_RUNS` large jobs are going on."""
        return True

    @property
    def progress(self) -> tuple[float, str]:
        """Share of the work that is done, and a message, with the job's place in the queue if it waits."""
        share, message = self._reported
        return share, f"{message}; number {self.place:,} in the queue" if self.place else message

    def advance(self, share: float, message: str) -> None:
        """Store the share of the work that is done, and a message; pages show both as progress."""
        self._reported = (share, message)

    def claim(self) -> bool:
        """Return True to the first caller, who must run the job, and False to every later caller."""
        return self._claimed.acquire(blocking=False)

    def stop(self) -> None:
        """Ask the job to end before its next step; asking again is harmless."""
        self.cancel.set()

    def abandon(self) -> None:
        """Stop the job, because nobody will see its result."""
        self.abandoned = True
        self.stop()


def begin(job: Job, work: Callable[[], None]) -> None:
    """Start a job in its own thread; a second call for the same job does nothing.

    Args:
        job: `work` fills it in.
        work: runs the job until it is done or `job.cancel` is set.
    """
    if job.claim():
        threading.Thread(target=_run, args=(job, work), daemon=True).start()


def stop_with_tab(job: Job) -> None:
    """Stop the job when this session ends, because nobody can see its result any more."""
    job.visitor = _of_session()
    job.visitor.jobs.add(job)


def follow(job: Job, placeholder: DeltaGenerator, on_poll: Callable[[], object] = lambda: None) -> None:
    """Show the progress of a job until it ends. Streamlit may end the script meanwhile.

    Args:
        job: the job, which has been started.
        placeholder: placeholder that shows the progress.
        on_poll: called several times a second while the job runs, and once after its end.
    """
    PAGES.release()
    FOLLOWERS.add(threading.get_ident())
    try:
        while not job.done.wait(max(1 / POLLS_PER_SECOND, len(FOLLOWERS) / ALL_POLLS_PER_SECOND)):
            placeholder.progress(*job.progress)
            on_poll()
    finally:
        FOLLOWERS.discard(threading.get_ident())
    on_poll()


def execute(job: Job, placeholder: DeltaGenerator, work: Callable[[], None]) -> None:
    """Start a job of this session, unless it has been started, and show its progress until it ends."""
    stop_with_tab(job)
    begin(job, work)
    follow(job, placeholder)


class Visitor:
    """A session: the owner of its jobs, and a visitor in the queue of forward passes."""

    def __init__(self) -> None:
        self.jobs: weakref.WeakSet[Job] = weakref.WeakSet()

    def leave(self) -> None:
        """Stop all jobs, because the visitor closed the tab."""
        for job in self.jobs:
            job.orphaned = job.waiting and not job.cancel.is_set()
            job.abandon()


@st.cache_resource(scope="session", show_spinner=False, on_release=Visitor.leave)
def _of_session() -> Visitor:
    """Return this session's visitor; Streamlit calls its `leave` when the visitor closes the tab."""
    return Visitor()


def _run(job: Job, work: Callable[[], None]) -> None:
    """Run a job; an exception becomes the job's error."""
    show_place = functools.partial(setattr, job, "place")
    try:
        with _admitted(job) as admitted, PASSES.acting_for(job.visitor or job, show_place):
            if not admitted:
                raise RequestError("it was stopped before its turn came")
            GOING.add(job)
            work()
            job.complete = not job.cancel.is_set()
    except ValueError as error:
        job.error = str(error)
    except Exception as error:  # the page shows the message, the server's log the traceback
        job.error = failure(error)
        _LOGGER.exception("a job failed")
    finally:
        GOING.discard(job)
        job.stop()
        job.done.set()


@contextlib.contextmanager
def _admitted(job: Job) -> Iterator[bool]:
    """Wait while too many large jobs are going on, if the job is large; yield False if it was stopped meanwhile."""
    if not job.is_large:
        yield not job.cancel.is_set()
        return
    ticket, has_turn = TURNS.join(), False
    try:
        while not job.cancel.is_set() and not (has_turn := TURNS.begin(ticket, seconds=0.2)):
            job.advance(0.0, _waiting(TURNS.ahead(ticket)))
        yield has_turn
    finally:
        TURNS.leave(ticket)


def _waiting(ahead: int) -> str:
    """Return one line for a visitor whose large job waits behind `ahead` others."""
    runs = f"{limits.CONCURRENT_RUNS} other large runs are going on"
    if not ahead:
        return f"{runs}; yours starts when one of them ends"
    return f"{runs} and {ahead:,} wait before yours; the first come is the first served"


def failure(error: Exception) -> str:
    """Return one line for the visitor about an exception that ended a computation."""
    message = str(error).strip()
    if is_shortage(error):
        return "the machine ran out of memory; use a shorter text or a smaller model"
    if isinstance(error, OSError) and error.strerror:  # without the folders of the server
        return f"{Path(str(error.filename)).name}: {error.strerror}" if error.filename else error.strerror
    return f"the computation failed: {message.splitlines()[0] if message else type(error).__name__}"


def is_shortage(error: Exception) -> bool:
    """Return whether an exception means that memory ran out; torch raises a RuntimeError for this and other causes."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in str(error))


def keep(cache: dict[Key, Value], key: Key, value: Value, most: int) -> None:
    """Put a value into a cache as its newest entry, and drop the oldest entries beyond `most`."""
    cache.pop(key, None)
    cache[key] = value
    for old in list(cache)[:-most]:
        cache.pop(old, None)
