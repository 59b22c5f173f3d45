"""The widgets that choose the two runs of the Compare page: the run on show, a file, the example, or a new run."""

from pathlib import Path

import streamlit as st

from model.run.request import Capture, RequestError, RunRequest
from model.trace.trace import Trace, TraceError
from pages.common import files, jobs, limits, models, session, text
from pages.intervene.compare import runs

# The URL holds these words too.
SHOWN, RECORDED, FILE, AGAIN, PROMPT = "on show", "recorded example", "trace file", "same text", "another prompt"
_HELP = {
    "left": "The run that the other pages show, the recorded example, or a trace file of yours.",
    "right": "`same text` and `another prompt` start a run now, with the model and the number format that you choose.",
}
_DTYPES = ("bfloat16", "float32", "float16")
_DTYPE_HELP = (
    "How the model's weights and results are stored: fewer bits round more. `bfloat16` rounds most. The default is A's."
)
_ROUTER = Capture(frozenset({"router"}))


def choose() -> tuple[Trace | None, Trace | None]:
    """Draw the widgets of both runs and return their traces; for a missing run, show why and return None."""
    left, right = st.columns(2)
    with left:
        a = _run_of("left", [SHOWN, RECORDED, FILE], None)
    with right:
        new_runs = [AGAIN, PROMPT] if models.available() else []
        b = _run_of("right", [*new_runs, RECORDED, FILE, SHOWN], a)
    return a, b


def _run_of(key: str, options: list[str], other: Trace | None) -> Trace | None:
    name = {"left": "A", "right": "B"}[key]
    kind = st.selectbox(name, options, key=key, bind="query-params", help=_HELP[key])
    try:
        return _trace(key, kind, other)
    except (ValueError, OSError) as error:
        st.error(text.sentence(error))
    except (MemoryError, RuntimeError) as error:  # raised by loading a model here; a run reports its own errors
        st.error(text.sentence(jobs.failure(error)))
    return None


def _trace(key: str, kind: str, other: Trace | None) -> Trace | None:
    """Return the trace of run A or B; None until the visitor has chosen it. `other` is the trace of the other run."""
    if kind == SHOWN:
        return session.current_trace()
    if kind == RECORDED:
        run = session.recorded()
        if run is None:
            raise TraceError("no example is installed; choose something else")
        return run.trace
    if kind == FILE:
        return files.choose_trace(key)
    return _new_run(kind, other)


def _new_run(kind: str, other: Trace | None) -> Trace | None:
    """Draw the widgets of a new run and return its trace; None until it can start.

    Args:
        kind: `PROMPT`: run a prompt that the visitor types; any other kind: run the text of `other`.
        other: trace of run A.

    Raises:
        ValueError: the text or prompt cannot be run; the message says why.
    """
    names = list(models.available())
    with st.container(horizontal=True):
        name = st.selectbox("Model of B", names, index=names.index(models.chosen()), key="with", bind="query-params")
        first = _DTYPES.index(str(other.origin["dtype"])) if other and other.origin.get("dtype") in _DTYPES else 0
        dtype = st.selectbox("Number format of B", _DTYPES, first, key="dtype", bind="query-params", help=_DTYPE_HELP)
    folder = models.available()[name]
    if kind == PROMPT:
        prompt = st.text_area("Prompt of B", height=76, key="other", bind=None if _is_long() else "query-params")
        if not prompt:
            return None
        if len(prompt) > limits.PROMPT_CHARACTERS:
            raise RequestError(f"the prompt is longer than {limits.PROMPT_CHARACTERS:,} characters; shorten it")
        return runs.run(folder, dtype, RunRequest(prompt=prompt, capture=_ROUTER))
    return None if other is None else runs.run(folder, dtype, _same_text(other, folder))


def _is_long() -> bool:
    """Return whether the prompt of run B is too long for a URL."""
    return len(st.session_state.get("other") or "") > limits.LINK_CHARACTERS


def _same_text(trace: Trace, folder: Path) -> RunRequest:
    """Return a request for the trace's token ids, or for its text if the model in `folder` has another vocabulary."""
    token_ids = tuple(token.id for token in trace.tokens)
    tokenizer = models.engines().get(folder).tokenizer
    if tokenizer is None or tokenizer.sha256 == trace.model.get("tokenizer_sha256"):
        if -1 in token_ids:
            raise RequestError("run A lacks some of its token ids; choose another prompt instead")
        return RunRequest(token_ids=token_ids, capture=_ROUTER)
    try:
        return RunRequest(prompt=trace.text.decode("utf-8"), capture=_ROUTER)
    except UnicodeDecodeError:
        raise RequestError("the text of A ends inside a character, so another vocabulary cannot read it") from None
