"""The state of a visitor's session: the model, the run on show, and the request that the widgets describe."""

import functools
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from model.run.request import FIELDS, Capture, RequestError, RunRequest
from model.run.request_fields import RequestField
from model.trace import file
from model.trace.trace import Trace, TraceError
from pages.common import examples, jobs, limits, models, runs
from pages.common.runs import Run
from viz.theme import THEMES, Theme

if TYPE_CHECKING:
    from model.checkpoint.tokenizer import Tokenizer

RECORDED = models.PRESETS / "recorded"
TEXT_SCALE = "text-scale"  # in the session state: size of text and figures over the usual size
PAGE_CAPTURE = Capture(frozenset({"router", "attention", "inputs"}))


# --- the model -------------------------------------------------------------------------------------------------------


def recorder(reuse: bool = False) -> Callable[[Run], None]:
    """Return a function that does a run on the chosen model.

    It loads the model, sets the variables to record (`runs.fit`), and records the run.

    Args:
        reuse: whether to take the trace of another visitor who has completed the same request.

    Raises:
        RequestError: no model is installed.
    """
    folder, loaded, cache = models.available()[models.chosen()], models.engines(), runs.finished()

    def work(run: Run) -> None:
        run.advance(0.0, "Loading the model")
        engine = loaded.get(folder, run)
        runs.fit(run, engine)
        with models.path_hidden(folder):
            if reuse:
                runs.recall_or_record(run, engine, cache)
            else:
                runs.record(run, engine, runs.key_of(run, engine))

    return work


def vocabulary(trace: Trace) -> "Tokenizer | None":
    """Return the tokenizer that made a trace; None if no installed model has it."""
    return models.vocabulary(trace)


# --- what is on show -------------------------------------------------------------------------------------------------


def own_run() -> Run | None:
    """Return the session's last run or opened file."""
    return st.session_state.get("run")


def shown() -> Run | None:
    """Return the run on show: the session's last run with a trace, else the recorded example, else None."""
    run = own_run()
    if run is None or run.trace is None:
        run = st.session_state.get("previous")  # shown until the new run has a trace, and if the new run is refused
    return run or recorded()


def current_trace() -> Trace | None:
    """Return the trace on show; None if the session has no run and no example is installed."""
    run = shown()
    return run.trace if run else None


def recorded() -> Run | None:
    """Return the recorded example of the first screen, the same object throughout a session."""
    trace = _recorded(RECORDED)
    if trace is None:
        return None
    return st.session_state.setdefault("recorded", Run(number=0, kind="recorded", trace=trace))


@functools.lru_cache(maxsize=2)  # asked for ten times by each page
def _recorded(folder: Path) -> Trace | None:
    for path in sorted(folder.glob("*.safetensors")):
        return file.load(path)
    return None


def start(request: RunRequest, work: Callable[[Run], None], kind: str = "run") -> Run:
    """Stop the session's run and begin a new one, which goes on when the visitor opens another page.

    Args:
        request: request of the run.
        work: function that records the run; it is called in another thread and reads no session state.
        kind: kind of the run, see `Run.kind`.
    """
    run = _show(Run(_next_number(), kind, request))
    jobs.stop_with_tab(run)
    jobs.begin(run, lambda: work(run))
    return run


def forget() -> None:
    """Drop the session's run; pages show the previous run again."""
    st.session_state.pop("run", None)


def show_recorded() -> None:
    """Stop and drop the session's runs; pages show the recorded example."""
    if (own := own_run()) is not None:
        own.abandon()
    for name in ("run", "previous"):
        st.session_state.pop(name, None)


def open_file(content: bytes) -> Run:
    """Show an uploaded trace: make it the session's run, and return the run.

    Raises:
        TraceError: the file is too large, or not a trace.
    """
    if len(content) > limits.UPLOAD_BYTES:
        raise TraceError(
            f"the file has {len(content) / 2**20:.0f} MB; at most {limits.UPLOAD_BYTES / 2**20:.0f} are read here"
        )
    return show_trace(file.loads(content))


def show_trace(trace: Trace) -> Run:
    """Show a trace from a file or an import: make it the session's run, and return the run."""
    return _show(Run(_next_number(), "opened", trace=trace))


def stop() -> None:
    """Stop the session's run, if it has not ended."""
    run = own_run()
    if run is not None:
        run.stop()


def _show(run: Run) -> Run:
    if (own := own_run()) is not None:
        own.abandon()
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


def request_from_widgets(prompt: str | None = None) -> RunRequest:
    """Return the request of the widgets, or of `prompt` in place of theirs; it records all that the pages show.

    Raises:
        RequestError: the prompt is empty or too long.
    """
    state = st.session_state  # asked key by key: Streamlit copies the whole state for whoever iterates over it
    values = {field.key: state[field.key] for field in FIELDS.values() if field.key in state}
    return request_from(values if prompt is None else values | {"prompt": prompt})


def request_from(values: Mapping[str, Any]) -> RunRequest:
    """Return the request with these values by widget key; a missing key has its default.

    Raises:
        ValueError: the value of a number is no number or out of range; or the prompt is empty or too long.
    """
    prompt = values.get("prompt") or ""
    if len(prompt) > limits.PROMPT_CHARACTERS:
        raise RequestError(
            f"the prompt has {len(prompt):,} characters, at most {limits.PROMPT_CHARACTERS:,} are run here; shorten it"
        )
    fields: dict[str, Any] = {
        field.name: field.read(values.get(field.key, first_value(field))) for field in FIELDS.values()
    }
    fields["max_new_tokens"] = min(fields["max_new_tokens"], limits.NEW_TOKENS)
    return RunRequest(**fields, capture=PAGE_CAPTURE)


def first_value(field: RequestField) -> Any:
    """Return the default of a request field's widget."""
    if field.name == "prompt":
        return examples.FIRST
    if field.name == "chat":
        return models.answers()
    first, high = field.default if field.first is None else field.first, limits.highest(field)
    # A field with a limit holds a number.
    return first if high is None else min(first, high)  # pyright: ignore[reportArgumentType]


def text_scale() -> float:
    """Return the size of text and figures over the usual size, as the visitor's choice and presenter mode set it."""
    return st.session_state.get(TEXT_SCALE, 1.0)


def theme() -> Theme:
    """Return the colours of the visitor's theme."""
    return THEMES["dark" if st.context.theme.type == "dark" else "light"]
