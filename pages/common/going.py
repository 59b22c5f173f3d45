"""The progress of the session's run, on pages that do not show the run itself."""

import streamlit as st

from pages.common import session
from pages.common.menu import FIRST
from pages.common.runs import Run

SECONDS_BETWEEN_LOOKS = 0.5
DRAWN_BY = {"run": FIRST, "engine": "imports"}  # kind of a run -> the page that shows its tokens as they arrive


def show(page: str) -> None:
    """Show the progress of the session's run, with a Stop button. When the run ends, rerun the page.

    Args:
        page: name of the open page in the menu.
    """
    run = session.own_run()
    if run is None or not run.waiting or DRAWN_BY.get(run.kind) == page:
        return
    with st.container(horizontal=True, vertical_alignment="center", key="going"):
        st.button("Stop", key="going-stop", on_click=session.stop, help="Keeps the tokens so far")
        st.fragment(_progress, run_every=SECONDS_BETWEEN_LOOKS)(run)


def _progress(run: Run) -> None:
    if not run.waiting:
        st.rerun()
    share, message = run.progress
    st.progress(share, f"Your run goes on: {message}. Until it ends, this page shows the run before.")
