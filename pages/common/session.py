"""What a visitor's session stands on: the models, the engine, the trace on show, the request from the widgets."""

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import streamlit as st

from model.run.request import Capture, RequestError, RunRequest
from model.trace import file
from model.trace.trace import Trace, TraceError
from pages.common import limits, models
from pages.common.runs import Run
from viz.theme import THEMES, Theme

if TYPE_CHECKING:
    from model.checkpoint.tokenizer import Tokenizer
    from model.run.engine import Engine

RECORDED = models.PRESETS / "recorded"


# --- the model -------------------------------------------------------------------------------------------------------


def engine() -> "Engine":
    """The chosen model, loaded once for all sessions.

    Raises:
        ValueError: there is no model, or its folder cannot be read; the message says what is wrong.
    """
    folder, loaded = models.available()[models.chosen()], models.engines()
    if loaded.has(folder):
        return loaded.get(folder)
    with st.spinner("Loading the model"):
        return loaded.get(folder)


def vocabulary(trace: Trace) -> "Tokenizer | None":
    """The vocabulary a trace was made with, if one of the models at hand has it."""
    return models.vocabulary(trace)


# --- what is on show -------------------------------------------------------------------------------------------------


def own_run() -> Run | None:
    """The run or opened file that the session asked for last."""
    return st.session_state.get("run")


def shown() -> Run | None:
    """What is on show: the session's last run or file that has a trace, else the recorded example, else None."""
    run = own_run()
    if run is None or run.trace is None:
        run = st.session_state.get("previous")  # one that is going on, or was refused, leaves on show what was there
    return run or recorded()


def current_trace() -> Trace | None:
    """The trace on show; None when nothing was run and no example is installed."""
    run = shown()
    return run.trace if run else None


def recorded() -> Run | None:
    """The example of the first screen, as one run per session."""
    trace = _recorded()
    if trace is None:
        return None
    return st.session_state.setdefault("recorded", Run(number=0, kind="recorded", trace=trace))


@st.cache_resource(show_spinner=False)
def _recorded() -> Trace | None:
    for path in sorted(RECORDED.glob("*.safetensors")):
        return file.load(path)
    return None


def start(request: RunRequest, kind: str = "run") -> Run:
    """Make a run the session's own; a page that knows its kind executes it. Whatever ran before is stopped."""
    return _show(Run(_next_number(), kind, request))


def forget() -> None:
    """Drop the session's run, as if it had not been asked for."""
    st.session_state.pop("run", None)


def open_file(content: bytes) -> Run:
    """Show an uploaded trace.

    Raises:
        TraceError: it is too large, or not a trace; the message says which.
    """
    if len(content) > limits.UPLOAD_BYTES:
        raise TraceError(f"the file has {len(content) / 2**20:.0f} MB; {limits.UPLOAD_BYTES / 2**20:.0f} are read here")
    return show_trace(file.loads(content))


def show_trace(trace: Trace) -> Run:
    """Show a trace that was not made here just now: from a file, or imported."""
    return _show(Run(_next_number(), "opened", trace=trace))


def stop() -> None:
    """Stop the session's run, if one is going on."""
    run = own_run()
    if run is not None:
        run.stop()


def _show(run: Run) -> Run:
    stop()
    before = shown()
    if before is not None and before.trace is not None:
        st.session_state["previous"] = before
    st.session_state["run"] = run
    return run


@st.cache_resource(show_spinner=False)
def _numbers() -> "itertools.count[int]":
    return itertools.count(1)


def _next_number() -> int:
    return next(_numbers())


# --- requests --------------------------------------------------------------------------------------------------------


def request_from_widgets() -> RunRequest:
    """The run that the widgets describe, recording what the pages show.

    Raises:
        RequestError: the prompt is empty or too long.
    """
    return request_from({str(name): value for name, value in st.session_state.items()})


def request_from(chosen: Mapping[str, Any]) -> RunRequest:
    """The run that values under the widgets' keys describe; what is not given is as on the first screen.

    Raises:
        ValueError: a value is not a number, or no run can have it; the prompt is empty or too long.
    """
    prompt = chosen.get("prompt") or ""
    if len(prompt) > limits.PROMPT_CHARACTERS:
        raise RequestError(
            f"the prompt has {len(prompt):,} characters, at most {limits.PROMPT_CHARACTERS:,} are run here; shorten it"
        )
    return RunRequest(
        prompt=prompt,
        max_new_tokens=min(int(chosen.get("new", limits.USUAL_NEW_TOKENS)), limits.NEW_TOKENS),
        temperature=float(chosen.get("temp", 0.7)),
        top_p=float(chosen.get("top_p", 1.0)),
        top_k=int(chosen.get("top_k", 0)),
        seed=int(chosen.get("seed", 0)),
        chat=str(chosen.get("chat", models.answers())).lower() == "true",
        capture=Capture(frozenset({"router", "attention", "inputs"})),
    )


def theme() -> Theme:
    """Colours of the theme that the visitor sees."""
    return THEMES["dark" if st.context.theme.type == "dark" else "light"]
