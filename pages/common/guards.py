"""End a page, or a part of one, with the reason why it cannot be shown."""

import contextlib
import logging
from collections.abc import Iterator
from typing import NoReturn

import streamlit as st

from model.run.request import RequestError
from model.trace.imports import origin
from model.trace.trace import Trace
from pages.common import jobs, text

_LOGGER = logging.getLogger(__name__)

# Trace variable -> its name on pages, and the value of `--capture` that records it.
CAPTURED_BY = {
    "router_score": ("the router's scores", "router"),
    "group_kept": ("the kept groups", "router"),
    "expert_id": ("the chosen experts", "router"),
    "gate_weight": ("the experts' weights", "router"),
    "attention": ("attention", "attention"),
    "indexer_score": ("the indexer's scores", "indexer"),
    "layer_input": ("the layers' inputs", "inputs"),
    "logits": ("the logits", "logits"),
}


def require(trace: Trace | None, *variables: str) -> Trace:
    """Return the trace if it holds all `variables`; otherwise show how to record them, and end the page."""
    if trace is None:
        stop_with("Nothing was run yet. Type a prompt on the Explore page and press Generate.")
    missing = [name for name in variables if not trace.has(name)]
    if missing:
        name, capture = CAPTURED_BY.get(missing[0], (missing[0], missing[0]))
        if origin.is_imported(trace):
            stop_with(
                f"This trace was imported and does not hold {name}, which this page shows. The Imports page says why."
            )
        stop_with(
            f"This trace does not hold {name}, which this page shows. Generate the text again on the Explore page, or "
            f"record it with `--capture {capture}` on the command line."
        )
    return trace


def require_num_experts(trace: Trace) -> None:
    """End the page if the trace does not state the number of experts: idle experts could not be counted."""
    if trace.shape.num_experts is None:
        stop_with(
            "This trace does not say how many experts its model has, so experts without tokens cannot be counted."
        )


@contextlib.contextmanager
def refusal_shown() -> Iterator[None]:
    """Show the message of a `RequestError` in place of the part of the page inside this context."""
    try:
        yield
    except RequestError as error:
        st.info(text.message(error), icon=":material/info:")


@contextlib.contextmanager
def shortage_shown() -> Iterator[None]:
    """Show one line of error in place of the `with` block's output if memory is short or a file is unreadable."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if isinstance(error, RuntimeError) and not jobs.is_shortage(error):
            raise
        _LOGGER.exception("a page was not shown")
        st.error(f"This part was not shown: {text.message(jobs.failure(error))}.")


def stop_with(message: str) -> NoReturn:
    """Show a message in place of the page's content, and end the page.

    Args:
        message: Markdown; the caller escapes text that comes from a trace or a file.
    """
    st.info(message, icon=":material/info:")
    st.stop()
