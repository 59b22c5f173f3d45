"""The widgets of the Imports page: a file that another engine wrote, its format, and the model that was run."""

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from model.checkpoint.embedded import RELEASED
from model.trace.imports import AUTO, NAMES
from model.trace.imports.count_formats import holds_counts, read_counts
from model.trace.imports.formats import read
from model.trace.trace import TraceError
from pages.common import limits, models, session, text

if TYPE_CHECKING:
    from model.trace.imports.building import Named

NOT_NAMED = "not named"
_MEGABYTES = limits.UPLOAD_BYTES // 2**20


def model_names() -> list[str]:
    """Return the options of the list of models: "not named", the installed models, and the released models.

    The app has only the configuration of a released model, not its weights.
    """
    return [NOT_NAMED, *models.available(), *RELEASED]


def label(name: str) -> str:
    """Return the label of a model in the list."""
    return f"{RELEASED[name]} (configuration)" if name in RELEASED else name


@st.cache_resource(show_spinner=False, max_entries=8)
def _named(model: Path | str) -> "Named":
    from model.checkpoint.named import named_model

    return named_model(model)


def named(name: str) -> "Named":
    """Return the configuration and vocabulary of the model `name`, one of `model_names`.

    Raises:
        ValueError: `name` is not in `model_names`, or the configuration or vocabulary cannot be read.
    """
    folders = models.available()
    if name not in folders and name not in RELEASED:  # a browser can send any text, such as the path of a folder
        raise TraceError("the named model is not in the list; choose one from the list")
    return _named(folders.get(name, name))


def choose() -> None:
    """Draw the widgets of the file, its format and its model, and the button that imports it."""
    left, right = st.columns([3, 2])
    left.file_uploader("File", key="import_file", max_upload_size=_MEGABYTES)
    with right:
        st.selectbox(
            "Format", list(NAMES), key="import_format", format_func=NAMES.__getitem__, bind="query-params",
            help="The engine that wrote the file. The list below says how each engine makes one.",
        )  # fmt: skip
        st.selectbox(
            "Model", model_names(), key="import_model", format_func=label, bind="query-params",
            help="The model that the engine ran. Its configuration says which layers have experts, and how many.",
        )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="bottom"):
        has_file = bool(st.session_state.get("import_file"))
        st.button("Show it", key="import_show", type="primary", on_click=_show, disabled=not has_file)
        with st.popover("More", icon=":material/tune:"):
            st.file_uploader(
                "The request to the engine, as JSON", key="import_request", max_upload_size=_MEGABYTES,
                help=(
                        "The request states the prompt, and the token to which the first row of the answer belongs. "
                        "For router logits, it states the batch's token ids."
                    ),
            )  # fmt: skip
            st.number_input(
                "Answer, run or sequence", 0, 10_000, 0, key="import_choice",
                help="Which one to show if the file holds several, counted from 0.",
            )  # fmt: skip
    error = st.session_state.get("import_error")
    if error:
        st.error(f"The file was not imported: {text.message(error)}. The page still shows the previous run.")


def _show() -> None:
    """Import the chosen file, or store the error in the session. A callback.

    Counts of experts are stored in the session for this page, and the run on show stays.
    """
    state = st.session_state
    state["import_error"], state["import_counts"] = None, None
    uploaded, sent, model = state.get("import_file"), state.get("import_request"), state.get("import_model")
    if uploaded is None:
        return
    try:
        if uploaded.size > limits.UPLOAD_BYTES:
            raise TraceError(f"the file is larger than {_MEGABYTES} MB; import it with `python -m model import`")
        content = uploaded.getvalue()
        of_model = None if model in (None, NOT_NAMED) else named(model)
        if holds_counts(content):
            if of_model is None:
                raise TraceError("name the model: counts of experts do not say which layers have experts")
            state["import_counts"] = read_counts(content, of_model)
            return
        trace = read(
            content,
            state.get("import_format") or AUTO,
            of_model,
            None if sent is None else sent.getvalue(),
            int(state.get("import_choice", 0)),
        )
    except ValueError as error:
        state["import_error"] = str(error)
        return
    session.show_trace(trace)
