"""The look of the app in one browser: light or dark, and the size of text and figures."""

from pathlib import Path

import streamlit as st
from streamlit.components.v2 import component

from pages.common import session
from pages.common.menu import MENU

_FOLDER = Path(__file__).parent
_HTML, _CSS, _JS = ((_FOLDER / f"look.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
_COMPONENT = component("moe_loupe_look", html=_HTML, css=_CSS, js=_JS)
SCALES = {"normal": 1.0, "large": 1.25, "largest": 1.5}
COOKIE = "moe_loupe_text"
USUAL_PX = 15  # `theme.baseFontSize` of .streamlit/config.toml
STYLE = """<style>
:root {{ --text-scale: {scale}; }}
html {{ font-size: {size}px !important; }}
</style>"""


def apply(least: float) -> None:
    """Set the size of text and figures of this script run; call it before anything is drawn.

    Args:
        least: smallest scale, whatever the visitor has chosen.
    """
    scale = max(least, SCALES[_text()])
    st.session_state[session.TEXT_SCALE] = scale
    st.html(STYLE.format(scale=scale, size=scale * USUAL_PX))


def switches() -> None:
    """Draw the switches of theme and text size. The browser keeps both, without a rerun for the theme's colours."""
    pages = [name for names in MENU.values() for name in names]
    data = {"text": _text(), "cookie": COOKIE, "pages": pages, "theme": st.context.theme.type}
    _COMPONENT(
        key="look", data=data, default={"text": _text()}, height="content",
        on_text_change=_take, on_theme_change=_nothing,
    )  # fmt: skip


def _text() -> str:
    """Return the chosen text size: as chosen in this session, else as the browser's cookie says, else the usual."""
    chosen = st.session_state.setdefault("text-size", st.context.cookies.get(COOKIE))
    return chosen if chosen in SCALES else "normal"


def _take() -> None:
    st.session_state["text-size"] = (st.session_state.get("look") or {}).get("text")


def _nothing() -> None:
    """Take no action: the script run that the browser asks for draws the figures in the new theme."""
