"""The new run B: started once per request, stopped by its button, and cached in the session."""

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from model.run.request import RequestError, RunRequest
from model.trace.trace import Trace
from pages.common import jobs, limits, models
from pages.common.runs import Run, check_prompt, execute_unseen

if TYPE_CHECKING:
    from model.run.engine import Engine


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
        execute_unseen(b, placeholder, lambda: _fitting_engine(folder, dtype, request))
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


def _fitting_engine(folder: Path, dtype: str, request: RunRequest) -> "Engine":
    model = engine(folder, dtype)
    check_prompt(request, model)
    return model


def engine(folder: Path, dtype: str) -> "Engine":
    """Return the model of a folder, computing in a dtype.

    Raises:
        ValueError: the folder cannot be read, or the model runs from disk and `dtype` is not float32.
    """
    loaded = models.engines().get(folder)
    if dtype == "float32":
        return loaded
    if loaded.disk is not None:
        raise RequestError(f"{folder.name} does not fit in memory and is run in float32 only; choose that")
    return _converted(str(folder), dtype)


@st.cache_resource(show_spinner="Loading the model", max_entries=1)
def _converted(folder: str, dtype: str) -> "Engine":
    from model.run.engine import Engine

    return Engine.load(Path(folder), dtype=dtype)
