"""The claims about V3, V3.2 and V4, each with a verdict, the primary sources, and the pages that show it."""

import dataclasses
import functools
import tomllib
from pathlib import Path
from typing import Any

from pages.common.menu import page_path

TEXT = Path(__file__).parent / "claims.toml"
ALL = "all"


@dataclasses.dataclass(frozen=True)
class View:
    """A link to a page of this app that shows a claim, with the choices in the URL."""

    page: str
    label: str
    choices: dict[str, str]

    @property
    def path(self) -> Path:
        """The path of the page's script."""
        return page_path(self.page)


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim with its verdict.

    Attributes:
        origin: where the claim was found, a key of `origins` in `claims.toml`.
        subject: subject of the claim, one word.
        claim: the claim in one sentence.
        verdict: verdict on the claim, a key of `verdicts` in `claims.toml`.
        says: summary of the primary sources.
        references: key of each source, and the place in it.
        views: links to the pages that show the claim.
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
    """Return all texts of the page, the content of `claims.toml`."""
    return tomllib.loads(TEXT.read_text(encoding="utf-8"))


@functools.cache
def claims() -> tuple[Claim, ...]:
    """Return all claims in the order of the page."""
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


def matching(verdict: str, subject: str, origin: str = ALL) -> list[Claim]:
    """Return the claims with this verdict, subject and origin; `ALL` matches every one."""
    return [
        claim
        for claim in claims()
        if verdict in (ALL, claim.verdict) and subject in (ALL, claim.subject) and origin in (ALL, claim.origin)
    ]


def reference(key: str, where: str, brief: bool = False) -> str:
    """Return a reference to a place in a source as Markdown, with a link to the source; `brief` leaves out numbers."""
    source = texts()["sources"][key]
    if "arxiv" in source:
        number = "" if brief else f", arXiv {source['arxiv']}"
        return f"[{source['name']}{number}](https://arxiv.org/abs/{source['arxiv']}), {where}"
    return f"[{source['name']}]({source['url']}), {where}"


def plain_reference(key: str, where: str) -> str:
    """Return a reference to a place in a source as plain text."""
    source = texts()["sources"][key]
    return f"{source['name']} ({'arXiv ' + source['arxiv'] if 'arxiv' in source else source['url']}), {where}"
