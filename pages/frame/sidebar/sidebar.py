"""The sidebar: the choice of the model, its size, the link to this view, and trace files to save and open."""

from pathlib import Path

import streamlit as st

from model.checkpoint.embedded import name_of
from model.trace import file
from model.trace.trace import TraceError
from pages.common import limits, models, prompt, session, text, view
from pages.frame.look import look
from pages.frame.sidebar import copy_link, folders, report, reset, roles
from pages.frame.sidebar.described import Described, Description, described

MOST_WAIT = 0.2  # seconds that the page waits for the facts of a model
SECONDS_BETWEEN_LOOKS = 0.5


def show() -> None:
    """Draw the sidebar. An uploaded trace becomes the run on show."""
    reset.put_back()
    with st.sidebar:
        roles.repair()
        _on_show()
        _model()
        _link()
        with st.expander("Trace file", icon=":material/description:"):
            _trace_file()
        with st.expander("Report", icon=":material/article:"):
            report.offer()
        st.segmented_control(
            "Save charts as", ["svg", "png"], default="svg", required=True, key="picture", persist_state="session"
        )
        look.switches()
        reset.buttons()


def _on_show() -> None:
    """Show which run is on show: its model, its first words, and where it was made. The chosen model may differ."""
    run = session.shown()
    if run is not None and run.trace is not None:
        st.caption(f"On show: {view.named(run)}  \n{view.made(run.trace)}")


def _link() -> None:
    """Draw the button that copies the URL. If the URL cannot hold the run, say so and offer the trace file."""
    lost = prompt.left_out(session.shown())
    if lost:
        st.caption(f"{lost} Save the trace instead; it opens under Trace file.")
        _save("save-for-link")
    copy_link.button(whole=lost is None)


def _model() -> None:
    available = models.available()
    if not available:
        st.warning(f"No model is installed. Name a model folder in {models.VARIABLE} and start again.")
        return
    folder = available[st.selectbox("Model", list(available), key="model", bind="query-params", on_change=_ask)]
    _card(folder)
    _notes(folder)
    folders.button()
    trace = session.current_trace()
    if trace is not None and trace.model.get("name") != name_of(folder):
        st.caption("The next run uses this model. The run on show comes from another model.")


def _ask() -> None:
    """Set the chat switch for the chosen model: on if it was trained to answer questions, else off. A callback."""
    st.session_state["chat"] = models.answers()


def _card(folder: Path) -> None:
    """Draw the facts of a model; while a thread reads them, a line that is replaced once they are there."""
    read = described(folder)
    if read.done.wait(MOST_WAIT):
        st.caption(lines_of(read.value))
    else:
        st.fragment(_await, run_every=SECONDS_BETWEEN_LOOKS)(read)


def _await(read: Described) -> None:
    if read.done.is_set():
        st.rerun()
    st.caption("Reading the folder's configuration and headers")


def _notes(folder: Path) -> None:
    """Draw what a visitor may not expect of a loaded model, folded."""
    loaded = models.engines()
    notes = getattr(loaded.get(folder), "notes", ()) if loaded.has(folder) else ()
    if notes:
        with st.expander(f"{len(notes)} note{'s' * (len(notes) > 1)} on this model", icon=":material/info:"):
            st.caption("  \n".join(map(text.sentence, notes)))


def lines_of(model: Description) -> str:
    """Return the facts of a model in lines of Markdown; of one that cannot be opened, the reason."""
    if not model.card:
        return text.sentence(model.missing[0])
    return "  \n".join(map(text.plain, [*([model.size] if model.size else []), *model.card]))


def _save(key: str) -> None:
    trace = session.current_trace()
    if trace is not None:
        name = f"{str(trace.model.get('name', 'trace')).replace('/', '-')}.safetensors"
        st.download_button(
            "Save this trace", data=lambda: file.dumps(trace), file_name=name,
            key=key, on_click="ignore", icon=":material/download:", width="stretch",
        )  # fmt: skip


def _trace_file() -> None:
    _save("save-trace")
    st.file_uploader(
        "Open a trace file",
        ["safetensors"],
        key="upload",
        on_change=_open,
        max_upload_size=limits.UPLOAD_BYTES // 2**20,
    )
    error = st.session_state.get("upload_error")
    if error:
        st.error(f"The file was not opened: {text.plain(error)}. The page still shows the previous trace.")


def _open() -> None:
    uploaded = st.session_state.get("upload")
    st.session_state["upload_error"] = None
    if uploaded is None:
        return
    try:
        session.open_file(uploaded.getvalue())
    except TraceError as error:
        st.session_state["upload_error"] = str(error)
