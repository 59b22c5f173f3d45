"""A new run as run B, the second of the two compared runs: started once per request, and cached in the session."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from model.checkpoint.embedded import name_of
from model.run.request import RequestError, RunRequest
from model.trace.trace import Trace
from pages.common import jobs, limits, models
from pages.common.runs import Run, check_prompt, finished, recall_or_record

if TYPE_CHECKING:
    from pages.common.models import AnyEngine


def run(folder: Path, dtype: str, request: RunRequest) -> Trace | None:
    """Return the trace of a request. If the session has not run it yet, run it now, with progress and a Stop button.

    Raises:
        RequestError: the run failed, or was stopped before its first step.
    """
    cache, key = _cache(), (folder, dtype, request)
    if key not in cache:
        stop()
        jobs.keep(cache, key, Run(0, "compared", request), limits.KEPT_EXPERIMENTS)
    b = cache[key]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Stop", key="stop-b", on_click=stop, disabled=not b.waiting)
        if not b.waiting and not b.complete:
            st.button("Run B again", key="run-b", on_click=_forget, args=(key,))
        placeholder = st.container(key="b-status").empty()
    if b.waiting:
        jobs.execute(b, placeholder, _recorder(b, folder, dtype))
        st.rerun()
    if b.error:
        raise RequestError(b.error)
    if b.stopped:
        placeholder.markdown(":orange-badge[stopped] The comparison uses the tokens that ran before the stop.")
    return b.trace


def _forget(key: tuple[Path, str, RunRequest]) -> None:
    _cache().pop(key, None)


def stop() -> None:
    """Stop this session's runs B; a second call changes nothing. A callback."""
    for b in _cache().values():
        b.stop()


def _cache() -> dict[tuple[Path, str, RunRequest], Run]:
    return st.session_state.setdefault("compared", {})


def _recorder(b: Run, folder: Path, dtype: str) -> Callable[[], None]:
    """Return a function that does run B; it reads no session state, so another thread can call it."""
    find, cache = finder(folder, dtype), finished()

    def work() -> None:
        assert b.request is not None
        b.advance(0.0, "Loading the model")
        model = find()
        check_prompt(b.request, model)
        recall_or_record(b, model, cache)

    return work


def finder(folder: Path, dtype: str) -> "Callable[[], AnyEngine]":
    """Return a function that returns the model of a folder in a dtype, for use in another thread.

    The function raises a ValueError if the model cannot be read, or if it runs from disk in another dtype.
    """
    engines, converted = models.engines(), _converted()

    def find() -> "AnyEngine":
        from model.families.choose import load

        loaded = engines.get(folder)
        own = str(loaded.dtype).removeprefix("torch.")
        if dtype == own:
            return loaded
        if loaded.abilities.exclusive:
            raise RequestError(f"{name_of(folder)} does not fit in memory and is run in {own} only; choose that")
        engine = converted.get((folder, dtype)) or load(folder, dtype=dtype)
        jobs.keep(converted, (folder, dtype), engine, 1)
        return engine

    return find


@st.cache_resource(show_spinner=False)
def _converted() -> "dict[tuple[Path, str], AnyEngine]":
    """Return a dictionary (folder, dtype) -> model that all visitors share; it holds one model, not in float32."""
    return {}
