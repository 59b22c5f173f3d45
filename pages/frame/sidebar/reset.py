"""Start over: the first screen with its example, as a new visitor sees it, and a way back."""

import streamlit as st

from pages.common import controls, kept, opening, session, view
from pages.common.menu import FIRST

_BEFORE, _BACK = "before-reset", "back-to"  # in the state: what a reset removed, and what Undo puts back
# What a reset leaves: this tab's place on the server and in a room, and the text size, which belongs to the browser.
_LEFT = ("kept-key", "first-visit", "room", "text-size")
_OF_FRAME = ("lesson", "step", "present", "hide")  # parameters of the URL
_CHOICES = (*(name for name in kept.NAMES if name != "room"), *view.LENS_ONLY, "model", "previous")


def put_back() -> None:
    """Put back the run and the choices after Undo has opened their view; call it before the sidebar's widgets."""
    if _BACK in st.session_state:
        session.stop()  # an equal run, which the view has started
        st.session_state.update(st.session_state.pop(_BACK))


def buttons() -> None:
    """Draw the button that brings back the first screen and, until the next run, the one that takes this back."""
    with st.container(horizontal=True):
        st.button(
            "Start over", key="start-over", on_click=_reset,
            help="Brings back the first screen: its example, its settings and a short address. Undo takes it back.",
        )  # fmt: skip
        if session.own_run() is not None:
            st.session_state.pop(_BEFORE, None)
        if _BEFORE in st.session_state:
            st.button(
                "Undo", key="undo-start-over", on_click=_undo, help="Shows the run and the page from before again."
            )


def _reset() -> None:
    """Remove runs, choices and parameters of the URL, and open the first page. A run that goes on is stopped."""
    session.stop()
    state, (page, values) = st.session_state, opening.current_view()
    before = {name: state[name] for name in _CHOICES if name in state}
    for name in [name for name in state if name not in _LEFT]:
        del state[name]
    for name in _OF_FRAME:
        controls.write_address(name, None)
    state[_BEFORE] = (page, values, before)
    opening.open_view(FIRST, {})


def _undo() -> None:
    page, values, st.session_state[_BACK] = st.session_state.pop(_BEFORE)
    opening.open_view(page, values)
