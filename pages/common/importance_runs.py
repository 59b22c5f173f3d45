"""Importance maps of a session: started, followed, stopped, and kept by model and tokens."""

import dataclasses
import time
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from model.trace.trace import Trace
from pages.common import heads, limits, runs
from pages.common.jobs import Job, keep

if TYPE_CHECKING:
    from model.run.engine import Engine
    from model.run.importance import Importance

SECONDS_BETWEEN_PROGRESS = 0.2
Key = tuple[str, tuple[int, ...]]  # of the weights, and the tokens


@dataclasses.dataclass(eq=False)
class Map(Job):
    """One map; `seen` fills while it is made."""

    trace: Trace
    token_ids: tuple[int, ...]
    seen: "Importance | None" = None


def fed(trace: Trace) -> tuple[int, ...]:
    """The tokens that a map of this trace is of: its first ones, as far as the cap allows."""
    return tuple(trace.data["token_id"].values[: limits.IMPORTANCE_TOKENS].tolist())


def of(trace: Trace) -> Map | None:
    """The map of this trace's model and tokens, going on or ended; None when nobody asked for it."""
    return _kept().get(_key(trace))


def start(trace: Trace) -> None:
    """Ask for it; the script executes it. What ran before in this session is stopped. A callback."""
    stop()
    keep(_kept(), _key(trace), Map(trace, fed(trace)))


def stop() -> None:
    """Stop the session's maps before their next batch; what was done stays. A callback."""
    for one in _kept().values():
        one.stop()


def execute(one: Map, place: DeltaGenerator) -> None:
    """Drive it to its end."""
    runs.execute_on(one, place, lambda: heads.require_maker(one.trace), lambda engine: _follow(one, engine, place))


def _follow(one: Map, engine: "Engine", place: DeltaGenerator) -> None:
    from model.run.importance import importance

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
