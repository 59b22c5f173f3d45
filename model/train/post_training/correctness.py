"""Whether answers are right.

The result of a response is the text after its last "Answer:" or "The answer is", up to the end of the line. An answer
is *right* if its result equals that of the reference response; if the reference has no result, the whole text must be
equal. An answer is *exact* if the whole text equals the reference, including the working.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from model.trace.routing import share_interval

_RESULT = re.compile(r"(?:Answer:|[Tt]he answer is)[ \t]*(.*)")
Share = dict[str, float]


class Verdict(NamedTuple):
    """Verdict on one answer."""

    kind: str
    right: bool
    exact: bool


def result_of(text: str) -> str | None:
    r"""Return the last result in a response, or None.

    >>> result_of("12 × 3 = 36\nAnswer: 36 cm")
    '36 cm'
    """
    results = _RESULT.findall(text)
    return results[-1].strip().rstrip(".") if results else None


def judge(kind: str, answer: str, reference: str) -> Verdict:
    """Compare an answer with the reference response; ignores white space at both ends."""
    result, exact = result_of(reference), answer.strip() == reference.strip()
    return Verdict(kind, exact if result is None else result_of(answer) == result, exact)


def shares(verdicts: Iterable[Verdict]) -> dict[str, Share]:
    """Return by kind the `right` and `exact` answers `of` all, and the bounds `low` and `high` of the right share.

    The bounds are Wilson's 95 % interval.
    """
    by_kind: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_kind.setdefault(verdict.kind, []).append(verdict)
    return {
        kind: share(sum(one.right for one in ones), len(ones)) | {"exact": sum(one.exact for one in ones)}
        for kind, ones in by_kind.items()
    }


def share(right: int, total: int) -> Share:
    """Return `right` of `total` with Wilson's 95 % interval of their ratio."""
    low, high = share_interval(right, total)
    return {"right": right, "of": total, "low": round(low, 4), "high": round(high, 4)}
