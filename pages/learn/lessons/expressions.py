"""Expressions of lessons: what they may contain, their value over the facts of a run, and texts that hold them.

An expression calls facts (`model.trace.facts`) and compares or calculates with their numbers. It comes from a file that
anybody may have written, so nothing of Python but this can be reached: no attributes, no names, no other functions.
"""

import ast
import inspect
import operator
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import simpleeval

from model.trace.facts.facts import FACTS
from model.trace.facts.sources import FactError, Value

Facts = Mapping[str, Callable[..., Value]]  # function by name, from `facts_of`
MOST_CHARACTERS, MOST_NODES, MOST_NUMBER, MOST_ITEMS = 500, 120, 1e15, 10_000
SECONDS = 5.0  # no fact is begun later than this after the first
MOST_DIGITS = 15


def _round(number: float, digits: int = 0) -> float:
    if not isinstance(digits, int) or abs(digits) > MOST_DIGITS:  # Python computes 10**digits, without a bound
        raise ExpressionError(f"round takes at most {MOST_DIGITS} digits")
    return round(number, digits)


HELPERS: dict[str, Callable[..., Any]] = {"abs": abs, "round": _round, "min": min, "max": max, "len": len, "sum": sum}
_FORMAT = r"\+?,?(?:\.\d)?[defg%]?"
_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip
_COMPARISONS = {
    kind: simpleeval.DEFAULT_OPERATORS[kind]
    for kind in (ast.Eq, ast.NotEq, ast.Gt, ast.Lt, ast.GtE, ast.LtE, ast.Not, ast.In, ast.NotIn)
}
_NODES = (
    *(ast.Expr, ast.Constant, ast.Name, ast.Load, ast.Call, ast.Subscript, ast.List, ast.IfExp),
    *(ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare, ast.And, ast.Or, *_OPERATORS, *_COMPARISONS),
)


class ExpressionError(ValueError):
    """An expression is wrong for every run; the message is one line for its author."""


def check(expression: str) -> None:
    """Refuse an expression that is no expression, or that calls no fact of this name with so many arguments.

    Raises:
        ExpressionError: the expression cannot have a value on any run.
    """
    for node in ast.walk(parsed(expression)):
        if isinstance(node, ast.Call):
            _check_call(node, expression)
        elif isinstance(node, ast.Constant) and not isinstance(node.value, int | float | str):
            raise ExpressionError(f"{expression!r} holds {node.value!r}, which is no number and no text")


def evaluate(expression: str, facts: Facts) -> Value:
    """Return the value of an expression.

    Args:
        expression: the expression, such as `max_violation(5) > 1`.
        facts: function by name, from `facts_of`.

    Raises:
        FactError: this run does not hold a fact; the message says why, or what to press.
        ExpressionError: the expression is wrong.
    """
    evaluator = simpleeval.EvalWithCompoundTypes(_operators(), names={})  # compound: it knows lists
    evaluator.functions = _functions(facts)
    handlers = evaluator.nodes or {}
    evaluator.nodes = {kind: handler for kind, handler in handlers.items() if kind in _NODES}
    try:
        return _bounded(evaluator.eval(expression, parsed(expression)))
    except (FactError, ExpressionError):
        raise
    except Exception as error:  # of any kind: a fact gets what the author wrote
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ExpressionError(f"{expression!r} has no value: {reason}") from None


def fill(text: str, facts: Facts) -> str:
    """Return a text with the values of its `{expression:format}`; `{{` and `}}` stand for braces.

    Raises:
        FactError: this run does not hold a fact.
        ExpressionError: an expression is wrong.
    """
    parts = (part if isinstance(part, str) else spelled(evaluate(part[0], facts), part[1]) for part in _parts(text))
    return "".join(parts)


def check_text(text: str) -> None:
    """Refuse a text with a wrong expression in it.

    Raises:
        ExpressionError: an expression is wrong, or a brace stands alone.
    """
    for part in _parts(text):
        if not isinstance(part, str):
            check(part[0])


def spelled(value: Value, form: str = "") -> str:
    """Return a value as a reader sees it: by default, numbers with three digits, and whole ones in full.

    >>> spelled(0.12345), spelled(12000), spelled([1, 2]), spelled(True), spelled(0.5, ".0%")
    ('0.123', '12,000', '1, 2', 'yes', '50%')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(spelled(each, form) for each in value)
    if isinstance(value, str):
        return value
    try:
        return format(value, form or (".3g" if isinstance(value, float) else ","))
    except ValueError:
        raise ExpressionError(f"{value!r} cannot be written in the format {form!r}") from None


def parsed(expression: str) -> ast.Expr:
    """Return the syntax tree of an expression.

    Raises:
        ExpressionError: it is no expression, or holds what none may hold.
    """
    if len(expression) > MOST_CHARACTERS:
        raise ExpressionError(f"the expression has {len(expression):,} characters, at most {MOST_CHARACTERS} are read")
    try:
        (statement,) = ast.parse(expression.strip()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ExpressionError(f"{expression!r} is no expression") from None
    nodes = list(ast.walk(statement))
    unknown = next((node for node in nodes if not isinstance(node, _NODES)), None)
    if unknown is not None or not isinstance(statement, ast.Expr):
        raise ExpressionError(f"{expression!r} holds something else than facts, numbers, texts and comparisons")
    if len(nodes) > MOST_NODES:
        raise ExpressionError(f"the expression has {len(nodes)} parts, at most {MOST_NODES} are computed")
    return statement


def _check_call(node: ast.Call, expression: str) -> None:
    name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
    if name in HELPERS:
        return
    if name not in FACTS:
        raise ExpressionError(f"no fact is named {name!r:.60}")
    try:
        inspect.signature(FACTS[name]).bind(None, *node.args, **{str(each.arg): each.value for each in node.keywords})
    except TypeError as error:
        raise ExpressionError(f"{name} in {expression!r}: {error}") from None


def _operators() -> dict[type, Callable[..., Any]]:
    """Return the operators by node type. Those that calculate take numbers only: a text times a million is refused."""
    return {kind: _on_numbers(function) for kind, function in _OPERATORS.items()} | _COMPARISONS


def _on_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    def calculate(*values: Any) -> Any:
        if not all(isinstance(value, int | float) for value in values):
            raise ExpressionError("only numbers can be calculated with")
        return _bounded(function(*values))

    return calculate


def _functions(facts: Facts) -> dict[str, Callable[..., Any]]:
    until = time.monotonic() + SECONDS

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any, **named: Any) -> Any:
            if time.monotonic() > until:
                raise ExpressionError(f"the expression takes more than {SECONDS:.0f} seconds")
            return _bounded(function(*values, **named))

        return call

    return {name: timed(function) for name, function in (HELPERS | dict(facts)).items()}


def _bounded(value: Any) -> Any:
    """Return a value of a type and size that expressions handle.

    Raises:
        ExpressionError: the value is something else, or too large.
    """
    if isinstance(value, bool | str) or (isinstance(value, int | float) and abs(value) <= MOST_NUMBER):
        return value
    if isinstance(value, list) and len(value) <= MOST_ITEMS:
        return [_bounded(each) for each in value]
    raise ExpressionError(f"a value is no number, text or list of numbers, or larger than {MOST_NUMBER:.0e}")


def _parts(text: str) -> Iterator[str | tuple[str, str]]:
    """Yield the plain parts of a text, and its expressions as (expression, format).

    Raises:
        ExpressionError: a brace stands alone.
    """
    for part in re.split(r"(\{\{|\}\}|\{[^{}]*\})", text):
        if part in ("{{", "}}"):
            yield part[0]
        elif part.startswith("{"):
            found = re.fullmatch(rf"(.*?)(?::({_FORMAT}))?", part[1:-1], re.DOTALL)
            assert found is not None
            yield found[1], found[2] or ""
        elif "{" in part or "}" in part:
            raise ExpressionError(f"a brace stands alone in {text!r:.80}; write {{{{ or }}}} for one that is shown")
        else:
            yield part
