"""What the two sides of the Compare page are: what is on show, a file, the example, or a run made for the purpose."""

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from model.run.request import Capture, RequestError, RunRequest
from model.trace import file
from model.trace.trace import Trace, TraceError
from pages.common import jobs, limits, models, runs, session, text
from pages.common.runs import Run

if TYPE_CHECKING:
    from model.run.engine import Engine

# These words stand in the address, too.
SHOWN, RECORDED, FILE, AGAIN, PROMPT = "on show", "recorded example", "trace file", "same text", "another prompt"
_HELP = {
    "left": "The run on show on the other pages, the example, or a trace file of yours.",
    "right": "`same text` and `another prompt` are run now, on a model and in a number format to choose.",
}
_DTYPES = ("bfloat16", "float32", "float16")


def choose() -> tuple[Trace | None, Trace | None]:
    """Both sides as the widgets say; None for one that cannot be had, which is said in its place."""
    left, right = st.columns(2)
    with left:
        a = _side("left", [SHOWN, RECORDED, FILE], None)
    with right:
        running = [AGAIN, PROMPT] if models.available() else []
        b = _side("right", [*running, RECORDED, FILE, SHOWN], a)
    return a, b


def _side(key: str, options: list[str], other: Trace | None) -> Trace | None:
    name = {"left": "A", "right": "B"}[key]
    kind = st.selectbox(name, options, key=key, bind="query-params", help=_HELP[key])
    try:
        trace = _trace(key, kind, other)
    except (ValueError, OSError) as problem:
        st.error(text.sentence(problem))
        return None
    except (MemoryError, RuntimeError) as problem:  # of a model that is loaded here; a run tells of its own
        st.error(text.sentence(jobs.failure(problem)))
        return None
    return trace


def _trace(key: str, kind: str, other: Trace | None) -> Trace | None:
    """One side's trace; None while something is yet to be chosen."""
    if kind == SHOWN:
        return session.current_trace()
    if kind == RECORDED:
        run = session.recorded()
        if run is None:
            raise TraceError("no example is installed; choose something else")
        return run.trace
    if kind == FILE:
        return from_file(key)
    return _run_now(kind, other)


# --- a file ----------------------------------------------------------------------------------------------------------


def from_file(key: str, label: str = "Trace file") -> Trace | None:
    """An uploaded trace, read once; nothing of it is opened by path. None while there is none.

    Raises:
        TraceError: it is too large, or not a trace.
    """
    uploaded = st.file_uploader(label, ["safetensors"], key=f"{key}-file", max_upload_size=limits.UPLOAD_BYTES // 2**20)
    if uploaded is None:
        return None
    kept = st.session_state.get(f"{key}-read")
    if kept is None or kept[0] != uploaded.file_id:
        if uploaded.size > limits.UPLOAD_BYTES:
            raise TraceError(
                f"the file is larger than {limits.UPLOAD_BYTES / 2**20:.0f} MB, which is the most read here"
            )
        kept = (uploaded.file_id, file.loads(uploaded.getvalue()))
        st.session_state[f"{key}-read"] = kept
    return kept[1]


# --- a run made for the purpose --------------------------------------------------------------------------------------


def _run_now(kind: str, other: Trace | None) -> Trace | None:
    """The other side's text, or another one, on a model and in a dtype to choose.

    Raises:
        ValueError: it cannot be run; the message says why.
    """
    names = list(models.available())
    with st.container(horizontal=True):
        name = st.selectbox("Model of B", names, index=names.index(models.chosen()), key="with", bind="query-params")
        dtype = st.selectbox("Number format of B", _DTYPES, key="dtype", bind="query-params")
    folder = models.available()[name]
    if kind == PROMPT:
        prompt = st.text_area("Prompt of B", height=76, key="other", bind=None if _is_long() else "query-params")
        if not prompt:
            return None
        if len(prompt) > limits.PROMPT_CHARACTERS:
            raise RequestError(f"the prompt is longer than {limits.PROMPT_CHARACTERS:,} characters; shorten it")
        return run(folder, dtype, RunRequest(prompt=prompt, capture=Capture(frozenset({"router"}))))
    if other is None:
        return None
    return run(folder, dtype, _same_text(other, folder))


def _is_long() -> bool:
    return len(st.session_state.get("other") or "") > limits.LINK_CHARACTERS


def _same_text(trace: Trace, folder: Path) -> RunRequest:
    """A request for a trace's own tokens, or for its text where the model has another vocabulary."""
    capture, ids = Capture(frozenset({"router"})), tuple(token.id for token in trace.tokens)
    tokenizer = models.engines().get(folder).tokenizer
    if tokenizer is None or tokenizer.sha256 == trace.model.get("tokenizer_sha256"):
        if -1 in ids:
            raise RequestError("A does not know all its token ids; choose another prompt instead")
        return RunRequest(token_ids=ids, capture=capture)
    try:
        return RunRequest(prompt=trace.text.decode("utf-8"), capture=capture)
    except UnicodeDecodeError:
        raise RequestError("the text of A ends inside a character, so that another vocabulary cannot read it") from None


def run(folder: Path, dtype: str, request: RunRequest) -> Trace | None:
    """The trace of a request: run here when it is first asked for, with Stop beside it, and kept by the session.

    Raises:
        RequestError: it could not be run, or was stopped before there was anything to compare.
    """
    kept, key = _kept(), (folder, dtype, request)
    if key not in kept:
        stop()
        jobs.keep(kept, key, Run(0, "compared", request), limits.KEPT_EXPERIMENTS)
    b = kept[key]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Stop", key="stop-b", on_click=stop, disabled=not b.waiting)
        if not b.waiting and not b.complete:
            st.button("Run B again", key="run-b", on_click=kept.pop, args=(key, None))
        place = st.container(key="b-status").empty()
    if b.waiting:
        runs.execute_unseen(b, place, lambda: _fitting_engine(folder, dtype, request))
        st.rerun()
    if b.error:
        raise RequestError(b.error)
    if b.stopped:
        place.markdown(":orange-badge[stopped] What was run until then is compared.")
    return b.trace


def stop() -> None:
    """Stop this session's run of B; again is harmless. A callback."""
    for b in _kept().values():
        b.stop()


def _kept() -> dict[tuple[Path, str, RunRequest], Run]:
    return st.session_state.setdefault("compared", {})


def _fitting_engine(folder: Path, dtype: str, request: RunRequest) -> "Engine":
    found = engine(folder, dtype)
    runs.check_prompt(request, found)
    return found


def engine(folder: Path, dtype: str) -> "Engine":
    """The model of a folder in a dtype.

    Raises:
        ValueError: it cannot be read, or is read from the disk, which is done in float32 only.
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
