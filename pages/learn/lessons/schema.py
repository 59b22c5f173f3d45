"""The schema of a lesson's TOML file, and errors that name the line.

A file may come from anybody: it is bounded before it is parsed, and each key, type, length and expression is checked.
"""

import dataclasses
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pages.common.menu import MENU
from pages.common.opening import FRAME
from pages.learn.lessons import expressions
from pages.learn.lessons.expressions import ExpressionError

Table = dict[str, Any]
Where = tuple[str | int, ...]  # path of a value, such as ("step", 0, "ask", "answer")

VERSION = 1
MOST_CHARACTERS_OF_LINE = 4_000
MOST_BYTES, MOST_CHARACTERS, MOST_STEPS, MOST_OPTIONS, MOST_MINUTES = 256 * 1024, 2_000, 40, 8, 240
KINDS = ("choice", "number", "token", "expert")
PAGES = {page for pages in MENU.values() for page in pages}


class LessonError(ValueError):
    """A file is no lesson; the message is one line: the line of the file, and what to change."""


@dataclasses.dataclass(frozen=True)
class _Key:
    """A key of a table: the check of its value, and whether it must be there."""

    check: Callable[[Any, Where], None]
    required: bool = True


class _Wrong(Exception):
    """A value is wrong. Holds its path and the reason."""

    def __init__(self, where: Where, reason: str) -> None:
        self.where, self.reason = where, reason


def read(path: Path) -> Table:
    """Return the content of a lesson's file, checked.

    Raises:
        LessonError: the file is no lesson.
        OSError: the file cannot be read.
    """
    if path.stat().st_size > MOST_BYTES:
        raise LessonError(f"the file has {path.stat().st_size:,} bytes, a lesson has at most {MOST_BYTES:,}")
    content = path.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise LessonError(f"line {line}: the text is not UTF-8") from None
    try:
        _check_lines(text)
        table = tomllib.loads(text)
        _table(_LESSON)(table, ())
        _check_names_of_texts(table)
    except _Wrong as error:
        raise LessonError(f"line {line_of(text, error.where)}: {error.reason}") from None
    except LessonError:
        raise
    except (ValueError, RecursionError) as error:  # the parser also raises a ValueError, for a number of 4,301 digits
        raise LessonError(_located(str(error))) from None
    return table


def _check_lines(text: str) -> None:
    """Refuse a line that is too long: the TOML parser takes time with the square of a key's length."""
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > MOST_CHARACTERS_OF_LINE:
            raise LessonError(f"line {number}: a line has at most {MOST_CHARACTERS_OF_LINE:,} characters")


def _located(message: str) -> str:
    """Return a message of the TOML parser with the line in front."""
    found = re.fullmatch(r"(.*) \(at line (\d+), column \d+\)", message, re.DOTALL)
    return f"line {found[2]}: {found[1]}" if found else f"line 1: {message.splitlines()[0] if message else 'no TOML'}"


# --- the line of a value ---------------------------------------------------------------------------------------------


def line_of(text: str, where: Where) -> int:
    """Return the line, from 1, of the value at a path; if the value is missing, the line of the table it belongs to."""
    best, length = 1, 0
    for number, path in _paths(text):
        common = min(len(path), len(where))
        if path[:common] == where[:common] and common > length:
            best, length = number, common
    return best


def _paths(text: str) -> Iterator[tuple[int, Where]]:
    """Yield the line and path of every table and key that begins a line."""
    table, counts, fence = (), {}, ""
    for number, line in enumerate(text.splitlines(), 1):
        if not fence and (header := re.match(r"\s*(\[\[?)\s*([\w-]+(?:\s*\.\s*[\w-]+)*)\s*\]", line)):
            table = _numbered(tuple(re.split(r"\s*\.\s*", header[2])), header[1] == "[[", counts)
            yield number, table
        elif not fence and (key := re.match(r"\s*([\w-]+)\s*=", line)):
            yield number, (*table, key[1])
        for mark in re.findall(r'"""|\'\'\'', line):  # a text of several lines
            fence = "" if fence == mark else fence or mark


def _numbered(names: tuple[str, ...], repeats: bool, counts: dict[Where, int]) -> Where:
    """Return the path of a table; an array's name is followed by the number of its last table."""
    path: Where = ()
    for place, name in enumerate(names):
        path = (*path, name)
        if repeats and place == len(names) - 1:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


# --- checks ----------------------------------------------------------------------------------------------------------


def _table(keys: dict[str, _Key]) -> Callable[[Any, Where], None]:
    def check(value: Any, where: Where) -> None:
        if not isinstance(value, dict):
            raise _Wrong(where, f"{_name(where)} must be a table")
        for name in value.keys() - keys.keys():
            raise _Wrong((*where, name), f"a lesson has no key {name!r:.60} here; known: {', '.join(keys)}")
        for name, key in keys.items():
            if name in value:
                key.check(value[name], (*where, name))
            elif key.required:
                raise _Wrong(where, f"{name} is missing")

    return check


def _list(item: Callable[[Any, Where], None], least: int, most: int) -> Callable[[Any, Where], None]:
    def check(value: Any, where: Where) -> None:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise _Wrong(where, f"{_name(where)} must be a list of {least} to {most}")
        for place, each in enumerate(value):
            item(each, (*where, place))

    return check


def _name(where: Where) -> str:
    return next((str(part) for part in reversed(where) if isinstance(part, str)), "the file")


def _plain(value: Any, where: Where) -> None:
    if not isinstance(value, str) or not value.strip() or len(value) > MOST_CHARACTERS:
        raise _Wrong(where, f"{_name(where)} must be a text of 1 to {MOST_CHARACTERS:,} characters")


def _text(value: Any, where: Where) -> None:
    _plain(value, where)
    _of_expressions(expressions.check_text, value, where)


def _expression(value: Any, where: Where) -> None:
    _plain(value, where)
    _of_expressions(expressions.check, value, where)


def _of_expressions(check: Callable[[str], None], value: str, where: Where) -> None:
    try:
        check(value)
    except ExpressionError as error:
        raise _Wrong(where, f"{_name(where)}: {error}") from None


def _number(least: float, most: float, whole: bool) -> Callable[[Any, Where], None]:
    def check(value: Any, where: Where) -> None:
        kinds = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
            kind = "whole number" if whole else "number"
            raise _Wrong(where, f"{_name(where)} must be a {kind} from {least} to {most}")

    return check


def _one_of(options: tuple[str, ...]) -> Callable[[Any, Where], None]:
    def check(value: Any, where: Where) -> None:
        if value not in options:
            raise _Wrong(where, f"{_name(where)} is {value!r:.60}; it must be one of {', '.join(options)}")

    return check


def _view(value: Any, where: Where) -> None:
    if not isinstance(value, dict) or len(value) > 20:
        raise _Wrong(where, "view must be a table of at most 20 choices")
    if "text" in value and "prompt" in value:
        raise _Wrong(where, "view has both text and prompt; text names one of [texts], prompt is the text itself")
    for name, choice in value.items():
        here = (*where, name)
        if name in FRAME:
            raise _Wrong(here, f"view holds {name}, which belongs to the visitor and not to a lesson")
        if not re.fullmatch("[a-z][a-z0-9_-]{0,30}", name) or not isinstance(choice, str | int | float):
            raise _Wrong(here, f"view holds {name!r:.60} = {choice!r:.60}; a choice is a text or a number")
        if isinstance(choice, str) and len(choice) > MOST_CHARACTERS:
            raise _Wrong(here, f"{name} must be a text of at most {MOST_CHARACTERS:,} characters")
        if isinstance(choice, str) and choice.startswith("="):
            _expression(choice[1:], here)


def _question(keys: dict[str, _Key]) -> Callable[[Any, Where], None]:
    def check(value: Any, where: Where) -> None:
        _table(keys)(value, where)
        has_options = "options" in value
        if has_options != (value["kind"] == "choice"):
            raise _Wrong(where, "a choice needs options" if not has_options else f"a {value['kind']} has no options")
        if "tolerance" in value and value["kind"] != "number":
            raise _Wrong((*where, "tolerance"), "only a number has a tolerance")

    return check


def _texts(value: Any, where: Where) -> None:
    if not isinstance(value, dict) or len(value) > 20:
        raise _Wrong(where, "texts must be a table of at most 20 texts")
    for name, text in value.items():
        _plain(text, (*where, name))


def _check_names_of_texts(content: Table) -> None:
    """Refuse a view whose `text` names none of the lesson's texts."""
    named = content.get("texts", {})
    for kind in ("step", "test"):
        for place, each in enumerate(content.get(kind, [])):
            name = each.get("view", {}).get("text")
            if name is not None and name not in named:
                reason = f"text is {name!r:.60}; [texts] has {', '.join(named) or 'none'}"
                raise _Wrong((kind, place, "view"), reason)


_ASK = {
    "question": _Key(_text),
    "kind": _Key(_one_of(KINDS)),
    "answer": _Key(_expression),
    "options": _Key(_list(_text, 2, MOST_OPTIONS), required=False),
    "tolerance": _Key(_number(0, 1, whole=False), required=False),
    "why": _Key(_text, required=False),
}
_STEP = {
    "text": _Key(_text),
    "page": _Key(_one_of(tuple(sorted(PAGES)))),
    "view": _Key(_view, required=False),
    "do": _Key(_text, required=False),
    "ask": _Key(_question(_ASK), required=False),
    "claim": _Key(_list(_table({"text": _Key(_text), "true": _Key(_expression)}), 1, 10), required=False),
}
_TEST = _ASK | {"page": _STEP["page"], "view": _STEP["view"]}
_NOTES = {name: _Key(_list(_plain, 1, 20), required=False) for name in ("say", "errors")}
_LESSON = {
    "schema": _Key(_number(VERSION, VERSION, whole=True)),
    "title": _Key(_plain),
    "goal": _Key(_plain),
    "minutes": _Key(_number(1, MOST_MINUTES, whole=True)),
    "texts": _Key(_texts, required=False),
    "notes": _Key(_table(_NOTES), required=False),
    "step": _Key(_list(_table(_STEP), 1, MOST_STEPS)),
    "test": _Key(_list(_question(_TEST), 1, 20), required=False),
}
