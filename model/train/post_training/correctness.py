"""Decides whether answers are right.

The result of a response is the text after its last "Answer:" or "The answer is", up to the end of the line. An answer
is *right* if its result equals the result of the reference response; if the reference has no result, the whole texts
must be equal. An answer is *exact* if its whole text equals that of the reference, including the working.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from model.trace.routing import share_interval

_RESULT = re.compile(r"(?:Answer:|[Tt]he answer is)[ \t]*(.*)")
Share = dict[str, float]


class Verdict(NamedTuple):
    """The verdict on one answer; `kind` is the kind of its prompt."""

    kind: str
    right: bool
    exact: bool


def result_of(text: str) -> str | None:
    r"""Return the last result in a response; None if it has no result.

    >>> result_of("12 × 3 = 36\nAnswer: 36 cm")
    '36 cm'
    """
    results = _RESULT.findall(text)
    return results[-1].strip().rstrip(".") if results else None


def judge(kind: str, answer: str, reference: str) -> Verdict:
    """Return the verdict on an answer, compared with the reference response; white space at both ends is ignored."""
    result, exact = result_of(reference), answer.strip() == reference.strip()
    return Verdict(kind, exact if result is None else result_of(answer) == result, exact)


def shares(verdicts: Iterable[Verdict]) -> dict[str, Share]:
    """Return for each kind the numbers of `right`, of `exact` and of all answers (`of`), and an interval.

    `low` and `high` are the bounds of Wilson's 95 % interval of the share of right answers.
    """
    by_kind: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_kind.setdefault(verdict.kind, []).append(verdict)
    return {
        kind: share(sum(one.right for one in ones), len(ones)) | {"exact": sum(one.exact for one in ones)}
        for kind, ones in by_kind.items()
    }


def share(right: int, total: int) -> Share:
    """Return `right`, the total (`of`), and Wilson's 95 % interval (`low`, `high`) of their ratio."""
    low, high = share_interval(right, total)
    return {"right": right, "of": total, "low": round(low, 4), "high": round(high, 4)}
