"""Presenter mode, for a projector: one figure at a time in large type, without sidebar and controls."""

from pathlib import Path

import streamlit as st
from streamlit.components.v2 import component

from pages.common import controls
from pages.frame.look import look
from pages.frame.presenter import hidden

KEY = "present"  # in the URL, and of the state
SCALE = 1.5  # figures' smallest type of 12 px becomes 18 px
_FOLDER = Path(__file__).parent
_HINT = "<p hidden><output></output> &nbsp; ← → <i hidden>&nbsp; ↓ figure &nbsp; ↑ lesson</i> &nbsp; Esc leaves</p>"
_CSS, _HINT_CSS, _JS = (
    (_FOLDER / name).read_text(encoding="utf-8") for name in ("presenter.css", "hint.css", "presenter.js")
)
_COMPONENT = component("moe_loupe_presenter", html=_HINT, css=_HINT_CSS, js=_JS)


def begin(page: str) -> None:
    """Set presenter mode, hidden controls and text size of this script run; call it before anything is drawn.

    A URL sets the mode and the hidden controls when its page is opened; a URL without them changes nothing.

    Args:
        page: name of the open page.
    """
    state = st.session_state
    if state.get("present-taken") != page:
        state["present-taken"] = page
        if st.query_params.get(KEY) == "1":
            state[KEY] = True
        hidden.take(st.query_params.get(hidden.KEY))
    on = state.get(KEY, False)
    controls.write_address(KEY, "1" if on else None)
    look.apply(least=SCALE if on else 1.0)
    if on:
        st.html(f"<style>{_CSS}</style>")
    _COMPONENT(key="presenter", data={"on": on}, height="content", on_present_change=_take)
    hidden.apply()


def _take() -> None:
    pressed = st.session_state["presenter"].get("present")
    if pressed is not None:
        st.session_state[KEY] = bool(pressed)
