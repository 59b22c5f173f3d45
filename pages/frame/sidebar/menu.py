"""The pages of the menu, as Streamlit takes them."""

import streamlit as st
from streamlit.navigation.page import Page
from streamlit.runtime.scriptrunner import get_script_run_ctx

from pages.common.menu import FIRST, MENU, page_path, title


def pages() -> dict[str, list[Page]]:
    """Return the menu's pages by section; they are made once per session, because making one reads the disk."""
    if "menu" not in st.session_state:
        st.session_state["menu"] = {section: [_page(name) for name in names] for section, names in MENU.items()}
    return st.session_state["menu"]


def _page(name: str) -> Page:
    return st.Page(page_path(name), title=title(name), url_path=name, default=name == FIRST)


def session_id() -> str | None:
    """Return what names this session on the server; None outside a script run."""
    context = get_script_run_ctx()
    return context.session_id if context is not None else None
