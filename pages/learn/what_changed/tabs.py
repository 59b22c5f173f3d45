"""The tabs of the What changed page: the claims, and the generations side by side."""

import streamlit as st

from pages.common import controls
from pages.learn.what_changed import choices, overview, tables
from pages.learn.what_changed.claims import matching


def claims() -> None:
    """Show the filters and the claims that match them."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        origin = choices.origin()
        verdict = choices.verdict()
        subject = choices.subject()
    chosen = matching(verdict, subject, origin)
    overview.claims(chosen)
    overview.table(chosen)


def generations() -> None:
    """Show a row per property of the models and a column per model, with the sources of each row."""
    st.table(tables.generations(linked=True).set_index("property"))
    st.caption(
        "Numbers from the published configurations and reports; the cache is derived from the configurations. "
        "“Not found” means that the sources of the row do not say."
    )
    controls.download_table(tables.generations(), "generations")


CLAIMS, SIDE_BY_SIDE = "Claims", "Generations side by side"
TABS = {CLAIMS: claims, SIDE_BY_SIDE: generations}
