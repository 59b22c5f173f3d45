"""Whether answers are right.

An answer is *right* when the result that it ends with is the wanted one to the letter: what follows the last "Answer:"
or "The answer is" on its line. Where the wanted response names no result so, the whole of it has to be the same. It is
*exact* when all of it is the wanted response to the letter, working included.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from model.trace.routing import share_interval

_RESULT = re.compile(r"(?:Answer:|[Tt]he answer is)[ \t]*(.*)")
Share = dict[str, float]


class Verdict(NamedTuple):
    """On one answer."""

    kind: str
    right: bool
    exact: bool


def result_of(text: str) -> str | None:
    r"""The result that a response ends with; None where it names none.

    >>> result_of("12 × 3 = 36\nAnswer: 36 cm")
    '36 cm'
    """
    found = _RESULT.findall(text)
    return found[-1].strip().rstrip(".") if found else None


def judge(kind: str, said: str, wanted: str) -> Verdict:
    """Compare an answer with the wanted response; white space around them does not count."""
    result, exact = result_of(wanted), said.strip() == wanted.strip()
    return Verdict(kind, exact if result is None else result_of(said) == result, exact)


def shares(verdicts: Iterable[Verdict]) -> dict[str, Share]:
    """Of each kind: how many are `right` and how many `exact`, `of` how many, and `low` and `high` of the right share.

    The bounds are Wilson's, of 95 %.
    """
    by_kind: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_kind.setdefault(verdict.kind, []).append(verdict)
    return {
        kind: share(sum(one.right for one in ones), len(ones)) | {"exact": sum(one.exact for one in ones)}
        for kind, ones in by_kind.items()
    }


def share(right: int, total: int) -> Share:
    """So many of so many, with Wilson's interval of 95 %."""
    low, high = share_interval(right, total)
    return {"right": right, "of": total, "low": round(low, 4), "high": round(high, 4)}
