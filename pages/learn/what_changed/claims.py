"""What the page on the way from V3 to V3.2 says: claims, a verdict on each, and what the primary sources have."""

import dataclasses
import functools
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pages.common import controls
from pages.common.menu import page_path

TEXT = Path(__file__).parent / "claims.toml"
ALL = "all"


@dataclasses.dataclass(frozen=True)
class View:
    """A page of this app that shows something, and the choices that its address makes."""

    page: str
    label: str
    choices: dict[str, str]

    @property
    def path(self) -> Path:
        return page_path(self.page)


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim with its verdict.

    Attributes:
        origin: who says it, a key of the origins.
        subject: what it is about.
        claim: the claim in one sentence.
        verdict: a key of the verdicts.
        says: what the primary sources say.
        references: (key of the source, where in it) for each.
        views: the pages that show it.
    """

    origin: str
    subject: str
    claim: str
    verdict: str
    says: str
    references: list[tuple[str, str]]
    views: list[View]


@functools.cache
def texts() -> dict[str, Any]:
    """All words of the page."""
    return tomllib.loads(TEXT.read_text(encoding="utf-8"))


@functools.cache
def claims() -> tuple[Claim, ...]:
    """All claims, in the order of the page."""
    return tuple(
        Claim(
            origin=entry["origin"],
            subject=entry["subject"],
            claim=entry["claim"],
            verdict=entry["verdict"],
            says=entry["says"],
            references=[(each["in"], each["at"]) for each in entry["references"]],
            views=[View(each["page"], each["label"], each["with"]) for each in entry["views"]],
        )
        for entry in texts()["claims"].values()
    )


# --- choices ---------------------------------------------------------------------------------------------------------


def choose_verdict() -> str:
    """Choose which verdict the claims on show have; `ALL` for any."""
    return _choose("Verdict", "verdict", list(texts()["verdicts"]))


def choose_subject() -> str:
    """Choose what the claims on show are about; `ALL` for anything."""
    return _choose("Subject", "subject", list(dict.fromkeys(claim.subject for claim in claims())))


def _choose(label: str, key: str, options: list[str]) -> str:
    found = st.segmented_control(label, [ALL, *options], default=ALL, required=True, key=key, bind="query-params")
    return found or ALL


def matching(verdict: str, subject: str) -> list[Claim]:
    """The claims with that verdict on that subject."""
    return [each for each in claims() if verdict in (ALL, each.verdict) and subject in (ALL, each.subject)]


# --- on the page -----------------------------------------------------------------------------------------------------


def counts() -> None:
    """How many claims of each origin have which verdict, whatever is chosen."""
    for origin, names in texts()["origins"].items():
        found = Counter(claim.verdict for claim in claims() if claim.origin == origin)
        marks = " ".join(_mark(verdict, f"{found[verdict]} {verdict}") for verdict in texts()["verdicts"])
        st.markdown(f"{names['short']}: {found.total()} {marks}")


def _mark(verdict: str, words: str) -> str:
    look = texts()["verdicts"][verdict]
    return f":{look['colour']}-badge[:material/{look['icon']}: {words}]"


def show(chosen: Sequence[Claim]) -> None:
    """The claims under the name of who says them."""
    for origin, names in texts()["origins"].items():
        of_origin = [claim for claim in chosen if claim.origin == origin]
        if of_origin:
            st.markdown(f"##### {names['title']}")
        for claim in of_origin:
            _one(claim)
    if not chosen:
        st.info("No claim on this subject has this verdict. Choose another of either, or all.")


def _one(claim: Claim) -> None:
    with st.container(border=True):
        left, right = st.columns([4, 7], gap="medium")
        with left:
            st.markdown(f"{_mark(claim.verdict, claim.verdict)} :gray[{claim.subject}]")
            st.markdown(f"**{claim.claim}**")
        with right:
            st.markdown(claim.says)
            st.markdown("  \n".join(f":small[{reference(*each)}]" for each in claim.references))
            with st.container(horizontal=True, gap="small"):
                for view in claim.views:
                    st.page_link(
                        view.path, label=view.label, icon=":material/arrow_forward:", query_params=view.choices
                    )


def reference(key: str, where: str) -> str:
    """A reference, with the source as a link."""
    source = texts()["sources"][key]
    if "arxiv" in source:
        return f"[{source['name']}, arXiv {source['arxiv']}](https://arxiv.org/abs/{source['arxiv']}), {where}"
    return f"[{source['name']}]({source['url']}), {where}"


def numbers(chosen: Sequence[Claim]) -> None:
    """The same as a table, to read and to save, and what all of it rests on."""
    with st.expander("As a table", icon=":material/table:"):
        found = table(chosen)
        st.dataframe(found, hide_index=True, height="content" if len(found) < 8 else 300)
        controls.download_table(found, "what-changed")
    st.caption(texts()["notes"])


def table(chosen: Sequence[Claim]) -> pd.DataFrame:
    """One row per claim."""
    rows = [
        {
            "said by": claim.origin,
            "subject": claim.subject,
            "claim": claim.claim,
            "verdict": claim.verdict,
            "primary sources": claim.says,
            "references": "; ".join(_plain(source, where) for source, where in claim.references),
            "views": "; ".join(view.label for view in claim.views),
        }
        for claim in chosen
    ]
    columns = ["said by", "subject", "claim", "verdict", "primary sources", "references", "views"]
    return pd.DataFrame(rows, columns=columns)


def _plain(key: str, where: str) -> str:
    source = texts()["sources"][key]
    return f"{source['name']} ({'arXiv ' + source['arxiv'] if 'arxiv' in source else source['url']}), {where}"
