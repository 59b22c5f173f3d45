"""The glossary as data: technical words, a sentence on each, and the page that shows it; read from `words.toml`."""

import dataclasses
import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pages.common.menu import page_path

TEXT = Path(__file__).parent / "words.toml"
MOST_CHARACTERS = 160  # of a sentence, which is also shown where a visitor points at the word
_REQUIRED: dict[str, type] = {"says": str, "page": str}
_OPTIONAL: dict[str, type] = {"forms": list, "formula": str, "with": dict, "marked": bool}


class GlossaryError(ValueError):
    """An entry of the glossary is wrong; the message names it."""


@dataclasses.dataclass(frozen=True)
class Word:
    """A technical word.

    Attributes:
        word: the word in the singular.
        subject: the subject that it belongs to.
        says: one sentence on its meaning.
        page: name of the page that shows it.
        forms: all spellings by which pages are searched, the word and its plural among them.
        formula: its formula in LaTeX; empty if it has none.
        choices: choices on the page, as in a URL.
        marked: whether pages mark the word; words that also have an everyday sense are not marked.
    """

    word: str
    subject: str
    says: str
    page: str
    forms: tuple[str, ...]
    formula: str
    choices: Mapping[str, str]
    marked: bool

    @property
    def path(self) -> Path:
        """The path of the script of the page that shows it."""
        return page_path(self.page)


@functools.cache
def words() -> tuple[Word, ...]:
    """Return all words, subject by subject.

    Raises:
        GlossaryError: an entry of the file is wrong.
    """
    return parse(TEXT.read_text(encoding="utf-8"))


def subjects() -> list[str]:
    """Return the subjects in the order of the file."""
    return list(dict.fromkeys(word.subject for word in words()))


def matching(query: str) -> list[Word]:
    """Return the words that a query is part of; first those whose spelling holds it, then those whose sentence does."""
    wanted = query.casefold().strip()
    named = [word for word in words() if any(wanted in form.casefold() for form in word.forms)]
    return named + [word for word in words() if wanted in word.says.casefold() and word not in named]


def parse(content: str) -> tuple[Word, ...]:
    """Return the words in the text of a glossary file.

    Raises:
        GlossaryError: the text is no TOML, an entry is wrong, or two entries have a spelling in common.
    """
    try:
        tables = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise GlossaryError(f"the glossary is no TOML: {error}") from None
    found = [_word(subject, name, entry) for subject, part in tables.items() for name, entry in part.items()]
    spelled: dict[str, str] = {}
    for word in found:
        for form in word.forms:
            if spelled.setdefault(form.casefold(), word.word) != word.word:
                raise GlossaryError(f"{form!r} is a spelling of {spelled[form.casefold()]!r} and of {word.word!r}")
    return tuple(found)


def _word(subject: str, name: str, entry: Any) -> Word:
    if not isinstance(entry, dict):
        raise GlossaryError(f"{name!r} must be a table, not {entry!r:.40}")
    known = _REQUIRED | _OPTIONAL
    if lacking := [key for key in _REQUIRED if key not in entry]:
        raise GlossaryError(f"{name!r} lacks {lacking[0]!r}")
    for key, value in entry.items():
        if key not in known:
            raise GlossaryError(f"{name!r} has the unknown key {key!r}; choose from {', '.join(known)}")
        if type(value) is not known[key]:
            raise GlossaryError(f"{key!r} of {name!r} must be a {known[key].__name__}, not {value!r:.40}")
    forms, choices = entry.get("forms", []), entry.get("with", {})
    if not all(isinstance(text, str) for text in (*forms, *choices.values())):
        raise GlossaryError(f"'forms' and 'with' of {name!r} must hold texts")
    says = entry["says"]
    if len(says) > MOST_CHARACTERS or not says.endswith("."):
        raise GlossaryError(f"'says' of {name!r} must be a sentence of at most {MOST_CHARACTERS} characters")
    try:
        page_path(entry["page"])
    except KeyError:
        raise GlossaryError(f"{name!r} names the page {entry['page']!r}, which the menu does not have") from None
    return Word(
        word=name, subject=subject, says=says, page=entry["page"], forms=(name, f"{name}s", *forms),
        formula=entry.get("formula", ""), choices=choices, marked=entry.get("marked", True),
    )  # fmt: skip
