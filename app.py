"""The frame: page settings, menu and sidebar. Everything else is in `pages/`."""

from collections.abc import Callable

import streamlit as st

from pages.common import controls, guards, jobs, kept, limits, models, opening, prompt, style, view
from pages.common.menu import FIRST
from pages.frame.glossary import words
from pages.frame.lesson import panel as lesson
from pages.frame.presenter import presenter
from pages.frame.room import bar, follow, member, panel, push
from pages.frame.sidebar import menu, sidebar


def show() -> None:
    """Draw the frame and the open page."""
    st.set_page_config(page_title="MoE Loupe", page_icon=style.ICON, layout="wide", initial_sidebar_state="auto")
    if limits.REFUSED:
        st.error("  \n".join(limits.REFUSED))
        st.stop()
    page = st.navigation(menu.pages(), position="sidebar", expanded=True)
    kept.restore(page.url_path)
    member.take_from_address()
    follow.follow()
    opening.go(page.url_path or FIRST)  # may end this script, so nothing is drawn before
    st.set_page_config(page_title=f"{page.title} \N{MIDDLE DOT} MoE Loupe")
    style.apply()
    presenter.begin(page.url_path)
    style.title(page.title)
    kept.keep()
    controls.take_from_address(page.url_path)
    controls.keep()
    with guards.shortage_shown():
        panel.show()
        sidebar.show()
        lesson.show(page.url_path or FIRST)
    kept.notice(page.url_path)
    words.show(page.url_path or FIRST)
    _page(page.url_path, page.run)
    if models.available():
        models.warm(models.available()[models.chosen()])


def _page(path: str, run: Callable[[], None]) -> None:
    try:
        with guards.shortage_shown():
            if path:  # the first page has no path and handles its prompt itself
                prompt.restore_from_link()
            view.going(path or FIRST)
            if not bar.show(path or FIRST):
                run()
            lesson.catch_up()
    finally:  # a page that ends early, because it has nothing to show, leads back to the same view too
        if path:
            prompt.mirror()
        controls.mirror()
        follow.lead()
        opening.settle()


if __name__ == "__main__":  # Streamlit runs this file as its script
    with jobs.PAGES.held(menu.session_id(), jobs.SECONDS_FOR_A_PAGE):
        show()
else:  # the server imports it
    models.SERVES = True
    app = st.App(__file__, routes=push.ROUTES)
