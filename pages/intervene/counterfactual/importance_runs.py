"""Importance maps of a session: started, followed, stopped, and cached by model and tokens."""

import dataclasses
import time
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from model.trace.trace import Trace
from pages.common import heads, jobs, limits
from pages.common.jobs import Job

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.run.importance import Importance
    from pages.common.models import AnyEngine

Key = tuple[str, tuple[int, ...]]  # checksum of the weights, token ids


@dataclasses.dataclass(eq=False)
class ImportanceJob(Job):
    """The computation of one map; `importance` is filled while it runs."""

    trace: Trace
    token_ids: tuple[int, ...]
    importance: "Importance | None" = None


def used_tokens(trace: Trace) -> tuple[int, ...]:
    """Return the token ids that the map of a trace covers: those of its first `limits.IMPORTANCE_TOKENS` tokens."""
    return tuple(trace.data["token_id"].values[: limits.IMPORTANCE_TOKENS].tolist())


def of(trace: Trace) -> ImportanceJob | None:
    """Return the map of this trace's model and tokens, running or finished; None if it was not requested."""
    return _cache().get(_key(trace))


def start(trace: Trace) -> None:
    """Request the map of a trace, which the next script run executes, and stop the session's other maps. A callback."""
    stop()
    jobs.keep(_cache(), _key(trace), ImportanceJob(trace, used_tokens(trace)), limits.KEPT_EXPERIMENTS)


def stop() -> None:
    """Stop the session's maps before their next batch and keep what was computed. A callback."""
    for job in _cache().values():
        job.stop()


def execute(job: ImportanceJob, placeholder: DeltaGenerator) -> None:
    """Run the job of a map until it ends, and show its progress in the placeholder."""
    find = heads.finder(job.trace)
    jobs.execute(job, placeholder, lambda: _run(job, find))


def _run(job: ImportanceJob, find: "Callable[[], AnyEngine]") -> None:
    from model.families.importance import importance

    job.advance(0.0, "Loading the model")
    began = first = None
    for progress in importance(find(), job.token_ids, job.cancel):
        job.importance = progress
        now = time.monotonic()
        began, first = (now, progress.done) if began is None else (began, first)
        job.advance(progress.done / progress.total, _told(progress, progress.done - (first or 0), now - began))


def _told(progress: "Importance", done: int, seconds: float) -> str:
    """Return how far a map is, and about how long the rest takes if it goes on at the rate of `done` in `seconds`."""
    told = f"{progress.done:,} of {progress.total:,} experts knocked out"
    left = seconds / done * (progress.total - progress.done) if done else 0.0
    return f"{told}, about {left:,.0f} s left" if left >= 1 else told


def _key(trace: Trace) -> Key:
    return str(trace.model.get("weights_sha256")), used_tokens(trace)


def _cache() -> dict[Key, ImportanceJob]:
    return st.session_state.setdefault("importance-maps", {})
