"""Importance maps of a session: started, followed, stopped, and kept by model and tokens."""

import dataclasses
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from model.trace.trace import Trace
from pages.common import heads, jobs, limits
from pages.common.jobs import Job

if TYPE_CHECKING:
    from model.run.engine import Engine
    from model.run.importance import Importance

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
    jobs.keep(_kept(), _key(trace), Map(trace, fed(trace)), limits.KEPT_EXPERIMENTS)


def stop() -> None:
    """Stop the session's maps before their next batch; what was done stays. A callback."""
    for one in _kept().values():
        one.stop()


def execute(one: Map, place: DeltaGenerator) -> None:
    """Drive it to its end."""
    jobs.execute_on(one, place, lambda: heads.require_maker(one.trace), lambda engine: _follow(one, engine, place))


def _follow(one: Map, engine: "Engine", place: DeltaGenerator) -> None:
    from model.run.importance import importance

    show = jobs.paced(place)
    for seen in importance(engine, one.token_ids, one.cancel):
        one.seen = seen
        show(seen.done / seen.total, f"{seen.done:,} of {seen.total:,} experts knocked out")


def _key(trace: Trace) -> Key:
    return str(trace.model.get("weights_sha256")), fed(trace)


def _kept() -> dict[Key, Map]:
    return st.session_state.setdefault("importance-maps", {})
