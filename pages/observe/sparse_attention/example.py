"""A recorded run of a model with an indexer, shown if the run on show has none, and a button to run its text there."""

import gzip

import streamlit as st

from model.trace import file
from model.trace.trace import Trace
from pages.common import models, prompt, session, text
from pages.common.runs import Run

FILE = "sparse.safetensors.gz"
_NUMBER = -1  # number of the example; all other runs have numbers from 0 on


def run() -> Run | None:
    """Return the recorded run, the same object throughout a session; None if it is not installed."""
    trace = _trace()
    if trace is None:
        return None
    return st.session_state.setdefault("sparse-example", Run(number=_NUMBER, kind="recorded", trace=trace))


@st.cache_resource(show_spinner=False)
def _trace() -> Trace | None:
    path = session.RECORDED / FILE
    return file.loads(gzip.decompress(path.read_bytes())) if path.is_file() else None


def run_button(shown: Run) -> None:
    """Draw a button that runs the text on show with `sparse_model`; draw nothing if the text is unknown."""
    model, words = sparse_model(), prompt.prompt_of(shown)
    if model is not None and words:
        st.button(
            f"Run this text with {text.plain(model, 80)}", key="run-sparse", type="primary",
            on_click=prompt.generate_on, args=(model, words), icon=":material/play_arrow:",
            help="The run replaces the one on show, on every page.",
        )  # fmt: skip


def sparse_model() -> str | None:
    """Return the name of the chosen model if its indexer can be recorded, else of the first such model, or None."""
    from model.network.config import MODEL_TYPES  # other families have indexers whose scores no run records

    available = models.available()
    configs = [(name, models.config(available[name])) for name in ([models.chosen(), *available] if available else [])]
    return next((name for name, of in configs if "index_topk" in of and of.get("model_type") in MODEL_TYPES), None)
