"""The overview of What changed: counts by verdict, and the claims with their sources, their links and their table."""

from collections import Counter
from collections.abc import Sequence

import streamlit as st

from pages.common import controls
from pages.learn.what_changed import tables
from pages.learn.what_changed.claims import Claim, reference, texts
from pages.learn.what_changed.claims import claims as all_claims


def counts() -> None:
    """Show the number of claims by origin and verdict, over all claims."""
    for origin, names in texts()["origins"].items():
        verdicts = Counter(claim.verdict for claim in all_claims() if claim.origin == origin)
        badges = " ".join(_badge(verdict, f"{verdicts[verdict]} {verdict}") for verdict in texts()["verdicts"])
        st.markdown(f"{names['short']}: {verdicts.total()} {badges}")


def _badge(verdict: str, label: str) -> str:
    look = texts()["verdicts"][verdict]
    return f":{look['colour']}-badge[:material/{look['icon']}: {label}]"


def claims(chosen: Sequence[Claim]) -> None:
    """Show the claims, grouped by origin."""
    for origin, names in texts()["origins"].items():
        of_origin = [claim for claim in chosen if claim.origin == origin]
        if of_origin:
            st.markdown(f"## {names['title']}")
        for claim in of_origin:
            _claim(claim)
    if not chosen:
        st.info("No claim on this subject has this verdict. Choose another subject or verdict, or all.")


def _claim(claim: Claim) -> None:
    with st.container(border=True):
        left, right = st.columns([4, 7], gap="medium")
        with left:
            st.markdown(f"{_badge(claim.verdict, claim.verdict)} :gray[{claim.subject}]")
            st.markdown(f"**{claim.claim}**")
        with right:
            st.markdown(claim.says)
            st.markdown("  \n".join(f":small[{reference(*each)}]" for each in claim.references))
            with st.container(horizontal=True, gap="small"):
                for view in claim.views:
                    icon, choices = ":material/arrow_forward:", view.choices
                    st.page_link(view.path, label=view.label, icon=icon, query_params=choices)


def table(chosen: Sequence[Claim]) -> None:
    """Show the claims as a table that can be saved."""
    with st.expander("As a table", icon=":material/table:"):
        rows = tables.by_claim(chosen)
        st.dataframe(rows, hide_index=True, height="content" if len(rows) < 8 else 300, placeholder="")
        controls.download_table(rows, "what-changed")
