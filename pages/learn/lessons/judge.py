"""Judge an answer and a claim by the facts of the run on show."""

import ast
import dataclasses

from model.trace.facts.sources import Value
from pages.learn.lessons import expressions
from pages.learn.lessons.expressions import ExpressionError, Facts, evaluate, fill, spelled
from pages.learn.lessons.lesson import Ask, Claim

LETTERS = "ABCDEFGH"  # of the options of a choice, as a class calls them
_ROUNDING = 1e-9  # relative


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, and the right answer: the letter of a choice, or a number, and its words."""

    right: bool
    truth: str
    words: str


def options_of(ask: Ask, facts: Facts) -> list[str]:
    """Return the options of a choice with their computed numbers."""
    return [fill(option, facts) for option in ask.options]


def truth_of(ask: Ask, facts: Facts) -> tuple[Value, str]:
    """Return the right answer and its words; the answer of a choice is a letter.

    Raises:
        FactError: this run does not hold a fact.
        ExpressionError: the expression is wrong, or gives no possible answer.
    """
    value = evaluate(ask.answer, facts)
    if ask.kind == "choice":
        options = options_of(ask, facts)
        place = options.index(value) if isinstance(value, str) and value in options else value
        if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < len(options):
            raise ExpressionError(f"the answer is {spelled(value)!r:.80}, which is none of the options")
        return LETTERS[place], f"{LETTERS[place]}. {options[place]}"
    if isinstance(value, bool | str | list) or (ask.kind != "number" and not isinstance(value, int)):
        raise ExpressionError(f"the answer is {spelled(value)!r:.80}, which is no number of the kind {ask.kind}")
    return value, f"E{value}" if ask.kind == "expert" else f"{ask.kind} {value}" if ask.kind == "token" else spelled(
        value
    )


def judge(ask: Ask, answer: str, facts: Facts) -> Verdict:
    """Return whether an answer is right on this run.

    Args:
        ask: the question.
        answer: the letter of an option, or a number as text.
        facts: the facts of the run.

    Raises:
        FactError: this run does not hold a fact.
        ExpressionError: the expression is wrong.
    """
    truth, words = truth_of(ask, facts)
    return Verdict(is_right(ask, answer, truth), truth if isinstance(truth, str) else f"{truth:.6g}", words)


def is_right(ask: Ask, answer: str, truth: Value) -> bool:
    """Return whether an answer is right; `truth` is from `truth_of`, and numbers have the question's tolerance."""
    if isinstance(truth, str):
        return answer == truth
    assert not isinstance(truth, list)
    return abs(float(answer) - truth) <= max(ask.tolerance, _ROUNDING) * abs(truth)


def holds(claim: Claim, facts: Facts) -> tuple[bool, str]:
    """Return whether a claim is true on this run, and if not, the comparison that fails, with its computed numbers.

    Raises:
        FactError: this run does not hold a fact.
        ExpressionError: the expression is wrong, or is neither true nor false.
    """
    value = evaluate(claim.true, facts)
    if not isinstance(value, bool):
        raise ExpressionError(f"{claim.true!r} is {spelled(value)!r:.80}, neither true nor false")
    return value, "" if value else "; ".join(_failing(claim.true, facts))


def _failing(expression: str, facts: Facts) -> list[str]:
    """Return the comparisons of an expression that are false, with numbers in place of facts."""
    found = []
    for node in ast.walk(expressions.parsed(expression)):
        if isinstance(node, ast.Compare) and evaluate(ast.unparse(node), facts) is False:
            sides = [spelled(evaluate(ast.unparse(side), facts)) for side in (node.left, *node.comparators)]
            signs = [_SIGNS.get(type(operator), "?") for operator in node.ops]
            found.append(" ".join([sides[0], *(f"{sign} {side}" for sign, side in zip(signs, sides[1:], strict=True))]))
    return found


_SIGNS = {
    ast.Lt: "<", ast.LtE: "≤", ast.Gt: ">", ast.GtE: "≥", ast.Eq: "=", ast.NotEq: "≠", ast.In: "in",
    ast.NotIn: "not in",
}  # fmt: skip
