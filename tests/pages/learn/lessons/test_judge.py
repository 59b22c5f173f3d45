"""Answers and claims are judged by the facts of a run."""

import pytest

from model.trace.facts.sources import FactError
from pages.learn.lessons.expressions import ExpressionError
from pages.learn.lessons.judge import holds, judge, truth_of
from pages.learn.lessons.lesson import Ask, Claim


def _refuse() -> int:
    raise FactError("press Run")


FACTS = {"load": lambda layer, expert: 8, "margin": lambda token: 0.25, "effect": _refuse}
YES_NO = ("yes, {load(1, 1)}", "no")


@pytest.mark.parametrize(
    ("ask", "answer", "right", "words"),
    [
        (Ask("?", "choice", "0", YES_NO), "A", True, "A. yes, 8"),
        (Ask("?", "choice", "0", YES_NO), "B", False, "A. yes, 8"),
        (Ask("?", "choice", "'no' if load(1, 1) > 5 else 'x'", YES_NO), "B", True, "B. no"),
        (Ask("?", "choice", "'yes, 8'", YES_NO), "A", True, "A. yes, 8"),
        (Ask("?", "number", "load(1, 1) * 100"), "800", True, "800"),
        (Ask("?", "number", "load(1, 1) * 100"), "801", False, "800"),
        (Ask("?", "number", "load(1, 1) * 100", tolerance=0.1), "879", True, "800"),
        (Ask("?", "number", "load(1, 1) * 100", tolerance=0.1), "881", False, "800"),
        (Ask("?", "number", "-1 * margin(3)", tolerance=0.1), "-0.24", True, "-0.25"),
        (Ask("?", "expert", "load(1, 1)"), "8", True, "E8"),
        (Ask("?", "token", "load(1, 1)"), "7", False, "token 8"),
    ],
)
def test_answer(ask: Ask, answer: str, right: bool, words: str) -> None:
    verdict = judge(ask, answer, FACTS)
    assert (verdict.right, verdict.words) == (right, words)


@pytest.mark.parametrize(
    "ask",
    [
        Ask("?", "choice", "2", YES_NO),
        Ask("?", "choice", "-1", YES_NO),
        Ask("?", "choice", "load(1, 1) > 5", YES_NO),
        Ask("?", "choice", "'maybe'", YES_NO),
        Ask("?", "choice", "0.0", YES_NO),
        Ask("?", "expert", "margin(3)"),
        Ask("?", "token", "'x'"),
        Ask("?", "number", "[1]"),
    ],
)
def test_expression_that_gives_no_answer_is_refused(ask: Ask) -> None:
    with pytest.raises(ExpressionError, match="the answer is"):
        truth_of(ask, FACTS)


def test_a_missing_result_says_what_to_press() -> None:
    with pytest.raises(FactError, match="press Run"):
        judge(Ask("?", "number", "effect()"), "1", FACTS)


@pytest.mark.parametrize(
    ("true", "expected"),
    [
        ("load(1, 1) > 5", (True, "")),
        ("load(1, 1) < 5", (False, "8 < 5")),
        ("load(1, 1) > 5 and margin(2) >= 0.5", (False, "0.25 ≥ 0.5")),
        ("0 < margin(2) < 0.1", (False, "0 < 0.25 < 0.1")),
        ("not load(1, 1) == 8", (False, "")),
    ],
)
def test_claim(true: str, expected: tuple[bool, str]) -> None:
    assert holds(Claim("x", true), FACTS) == expected


def test_claim_that_is_neither_true_nor_false_is_refused() -> None:
    with pytest.raises(ExpressionError, match="neither true nor false"):
        holds(Claim("x", "load(1, 1)"), FACTS)
