"""Importance maps of a session: started, followed, stopped, and kept by model and tokens."""

import dataclasses
import threading
import time
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from model.run.request import RequestError
from model.trace.trace import Trace
from pages.common import heads, limits, runs

if TYPE_CHECKING:
    from model.run.importance import Importance

SECONDS_BETWEEN_PROGRESS = 0.2
Key = tuple[str, tuple[int, ...]]  # of the weights, and the tokens


@dataclasses.dataclass(eq=False)
class Map:
    """One map; `seen` fills while it is made."""

    trace: Trace
    token_ids: tuple[int, ...]
    seen: "Importance | None" = None
    error: str | None = None
    complete: bool = False
    cancel: threading.Event = dataclasses.field(default_factory=threading.Event)
    done: threading.Event = dataclasses.field(default_factory=threading.Event)
    _claimed: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    @property
    def waiting(self) -> bool:
        """Whether it has not ended."""
        return not self.done.is_set()

    def claim(self) -> bool:
        """Whether the caller is the one to execute it; True once."""
        return self._claimed.acquire(blocking=False)


def fed(trace: Trace) -> tuple[int, ...]:
    """The tokens that a map of this trace is of: its first ones, as far as the cap allows."""
    return tuple(trace.data["token_id"].values[: limits.IMPORTANCE_TOKENS].tolist())


def of(trace: Trace) -> Map | None:
    """The map of this trace's model and tokens, going on or ended; None when nobody asked for it."""
    return _kept().get(_key(trace))


def start(trace: Trace) -> None:
    """Ask for it; the script executes it. What ran before in this session is stopped. A callback."""
    stop()
    kept = _kept()
    kept.pop(_key(trace), None)
    kept[_key(trace)] = Map(trace, fed(trace))
    while len(kept) > limits.KEPT_EXPERIMENTS:
        del kept[next(iter(kept))]


def stop() -> None:
    """Stop the session's maps before their next batch; what was done stays. A callback."""
    for one in _kept().values():
        one.cancel.set()


def execute(one: Map, place: DeltaGenerator) -> None:
    """Drive it to its end in the script's own thread, as `runs.execute` does with a run."""
    if not one.claim():
        one.cancel.set()
        one.done.wait(timeout=30)
        return
    try:
        place.progress(0.0, "Loading the model")
        with runs.turn(place):
            _follow(one, place)
        one.complete = not one.cancel.is_set()
    except ValueError as problem:
        one.error = str(problem)
    except MemoryError:
        one.error = "the machine ran out of memory; use a shorter text"
    finally:
        one.cancel.set()
        one.done.set()


def _follow(one: Map, place: DeltaGenerator) -> None:
    from model.run.importance import importance

    engine = heads.maker(one.trace)
    if engine is None:
        name = one.trace.model.get("name") or "a model without a name"
        raise RequestError(
            f"the trace was made by {name}, which is not at hand here with the same weights; choose its model, or "
            "generate the text anew on the Explore page"
        )
    shown = 0.0
    for seen in importance(engine, one.token_ids, one.cancel):
        one.seen = seen
        if time.monotonic() - shown > SECONDS_BETWEEN_PROGRESS:
            shown = time.monotonic()
            said = f"{seen.done:,} of {seen.total:,} experts knocked out"
            place.progress(seen.done / seen.total, said)


def _key(trace: Trace) -> Key:
    return str(trace.model.get("weights_sha256")), fed(trace)


def _kept() -> dict[Key, Map]:
    return st.session_state.setdefault("importance-maps", {})
