"""Expressions give the values of facts, and reach nothing else."""

import contextlib
import time

import pytest
from hypothesis import given, strategies

from model.trace.facts.facts import FACTS
from model.trace.facts.sources import FactError
from pages.learn.lessons import expressions
from pages.learn.lessons.expressions import ExpressionError, check, check_text, evaluate, fill, spelled

FACTS_HERE = {"load": lambda layer, expert: 7, "max_violation": lambda layer: 1.25, "token_text": lambda token: "a:b"}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("load(3, 1)", 7),
        ("max_violation(5) > 1", True),
        ("max_violation(5) > 1 and load(1, 1) == 8", False),
        ("not load(1, 1) in [1, 7]", False),
        ("'yes' if load(1, 1) > 5 else 'no'", "yes"),
        ("-load(1, 1) * 2 + 1", -13),
        ("load(1, 1) // 2 + load(1, 1) % 2 + load(1, 1) / 7", 5.0),
        ("max(load(1, 1), 9)", 9),
        ("sum([1, 2, load(0, 0)])", 10),
        ("[4, 5][1]", 5),
        ("token_text(3) == 'a:b'", True),
        ("round(max_violation(1), 1)", 1.2),
        ("True", True),
    ],
)
def test_value(expression: str, value: object) -> None:
    assert evaluate(expression, FACTS_HERE) == value


HOSTILE = [
    "",
    "1; 2",
    "x = 3",
    "import os",
    "__import__('os').system('true')",
    "load.__globals__",
    "load(1, 1).__class__",
    "'a'.upper()",
    "load",
    "unknown(3)",
    "open('/etc/passwd')",
    "eval('1')",
    "(lambda: 1)()",
    "[x for x in [1]]",
    "{1: 2}",
    "(1, 2)",
    "f'{1}'",
    "9 ** 99",
    "1 << 99",
    "'a' * 9",
    "[1] * 9",
    "'%999999999d' % 3",
    "'a' + 'b'",
    "[1, 2][0:1]",
    "load(*[1, 2])",
    "load(**{'a': 1})",
    "None",
    "b'x'",
    "1j",
    "-" * 99 + "1",
    "+".join("1" * 100),
    "1" * 501,
    "((((" * 50,
    "9" * 400,
    "999999999 * 999999999",
    "1 / 0",
    "max()",
    "load(1)",
    "list()",
    "[[1], [2]][5]",
    "round(5, -999999999999999)",
    "round(5, 1.5)",
]


@pytest.mark.parametrize("expression", HOSTILE)
def test_anything_else_is_refused_in_one_line(expression: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(expression, FACTS_HERE)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 700


@given(strategies.text(alphabet="load(1,)[]'\" +-*/%<>=.xand_{}:", max_size=60))
def test_no_text_ends_in_another_error(expression: str) -> None:
    with contextlib.suppress(ExpressionError):
        evaluate(expression, FACTS_HERE)


def test_a_missing_fact_passes_on_what_to_press() -> None:
    def refuse() -> int:
        raise FactError("press Run")

    with pytest.raises(FactError, match="press Run"):
        evaluate("effect() > 1", {"effect": refuse})


def test_an_expression_that_takes_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expressions, "SECONDS", 0.01)
    with pytest.raises(ExpressionError, match="takes more than"):
        evaluate("slow() + slow()", {"slow": lambda: time.sleep(0.02) or 1})


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("nearest_tie(3)", "no fact is named 'nearest_tie'"),
        ("load(3)", "missing a required argument"),
        ("load(1, 2, 3)", "too many positional arguments"),
        ("load(1,", "is no expression"),
        ("load(1, None)", "no number"),
        ("load.x", "something else"),
    ],
)
def test_check_refuses_what_no_run_can_compute(expression: str, words: str) -> None:
    with pytest.raises(ExpressionError, match=words):
        check(expression)


def test_check_takes_every_fact() -> None:
    check("load(1, 2) > fair_load() and max_violation(1) < 3")
    assert "load" in FACTS


def test_text_is_filled_with_values() -> None:
    assert fill("E{load(1, 1)} has {max_violation(1):.1f}, {max_violation(1):.0%}; {{x}}", FACTS_HERE) == (
        "E7 has 1.2, 125%; {x}"
    )
    assert fill("“{token_text(1)}”", FACTS_HERE) == "“a:b”"
    assert fill("no expression", {}) == "no expression"


@pytest.mark.parametrize("text", ["{", "a } b", "{load(1, 1):999999999d}", "{}", "{nothing()}", "{load(1, 1)!r}"])
def test_wrong_texts_are_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        check_text(text)


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [(12345, "", "12,345"), (0.000123456, "", "0.000123"), (2.5, ".0%", "250%"), ([1, 2], "", "1, 2"), ("a", "", "a")],
)
def test_spelled(value: object, form: str, text: str) -> None:
    assert spelled(value, form) == text  # pyright: ignore[reportArgumentType]


def test_a_format_for_another_type_is_refused() -> None:
    with pytest.raises(ExpressionError, match="format"):
        fill("{max_violation(1):d}", FACTS_HERE)
