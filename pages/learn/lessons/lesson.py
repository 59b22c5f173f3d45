"""Lessons as data: the parts of a lesson, and the folders that hold one TOML file per lesson."""

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from pages.learn.lessons import schema
from pages.learn.lessons.schema import LessonError

VARIABLE = "MOE_LOUPE_LESSONS"
CONTENT = Path(__file__).parent / "content"
MOST_FILES = 100  # of a folder


@dataclasses.dataclass(frozen=True)
class Ask:
    """A question.

    Attributes:
        question: the question; it may hold `{expressions}`, like every text of a lesson.
        kind: "choice", "number", "token" or "expert".
        answer: expression of the right answer. Of a choice it gives the option's number, from 0, or its text.
        options: the options of a choice.
        tolerance: by how much of the right number a number may differ from it; 0: not at all.
        why: sentence on why the answer is right, shown after it.
    """

    question: str
    kind: str
    answer: str
    options: tuple[str, ...] = ()
    tolerance: float = 0.0
    why: str = ""


@dataclasses.dataclass(frozen=True)
class Claim:
    """What a student should see on the page, and the expression that is true if it is so."""

    text: str
    true: str


@dataclasses.dataclass(frozen=True)
class Step:
    """A step of a lesson, or a question of its self-test: a text beside a page.

    Attributes:
        text: a sentence or two; empty in a self-test.
        page: name of the page in the menu.
        view: choices on the page, as in a URL; one that begins with "=" is an expression.
        do: what to do on the page, shown once the question is answered; empty: nothing.
        ask: question to answer before the figure is shown; None: none.
        claims: what the student should see.
    """

    text: str
    page: str
    view: dict[str, str]
    do: str = ""
    ask: Ask | None = None
    claims: tuple[Claim, ...] = ()


@dataclasses.dataclass(frozen=True)
class Lesson:
    """A lesson; `name` is the name of its file, `say` and `errors` are the teacher's notes, `test` is the self-test."""

    name: str
    title: str
    goal: str
    minutes: int
    steps: tuple[Step, ...]
    test: tuple[Step, ...] = ()
    say: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def pages(self) -> tuple[Step, ...]:
        """The steps and then the questions of the self-test, in the order in which a student meets them."""
        return self.steps + self.test

    def question(self, number: int) -> str:
        """Return the id of the question of step `number`, from 0: "LESSON/STEP", or "LESSON/test/NUMBER" from 1."""
        own = number - len(self.steps)
        return f"{self.name}/{number + 1}" if own < 0 else f"{self.name}/test/{own + 1}"


@dataclasses.dataclass(frozen=True)
class Broken:
    """A file that is no lesson: its name, and the reason with the line."""

    file: str
    reason: str


def available() -> dict[str, Lesson | Broken]:
    """Return the lessons by name: those of the app, then those of the operator's folder, in the order of file names."""
    found: dict[str, Lesson | Broken] = {}
    for path in _files():
        lesson = load_or_refuse(path)
        name = path.stem
        if name in found:
            name, lesson = f"{name} (own)", Broken(path.name, "another lesson has this file name; give it another one")
        found[name] = lesson
    return found


def folder_error() -> str | None:
    """Return why the operator's folder cannot be read; None if it can, or none is named."""
    named = os.environ.get(VARIABLE, "")
    return f"{VARIABLE} is {named!r:.200}, which is no folder" if named and not Path(named).is_dir() else None


def load_or_refuse(path: Path) -> Lesson | Broken:
    """Return the lesson in a file, read again when the file has changed; a broken file with the reason."""
    try:
        status = path.stat()
        return _load_once(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        return Broken(path.name, error.strerror or "the file cannot be read")


def load(path: Path) -> Lesson:
    """Return the lesson in a file.

    Raises:
        LessonError: the file is no lesson; the message names the line.
        OSError: the file cannot be read.
    """
    content = schema.read(path)
    texts = content.get("texts", {})
    return Lesson(
        name=path.stem,
        title=content["title"],
        goal=content["goal"],
        minutes=content["minutes"],
        steps=tuple(_step(each, each.get("ask"), texts) for each in content["step"]),
        test=tuple(_step(each | {"text": ""}, each, texts) for each in content.get("test", [])),
        say=tuple(content.get("notes", {}).get("say", [])),
        errors=tuple(content.get("notes", {}).get("errors", [])),
    )


@functools.lru_cache(maxsize=2 * MOST_FILES)
def _load_once(path: Path, mtime_ns: int, size: int) -> Lesson | Broken:
    try:
        return load(path)
    except LessonError as error:
        return Broken(path.name, str(error))
    except ValueError:  # Python writes no number of more than 4,300 digits
        return Broken(path.name, "a number of the file is too long")


def _files() -> Iterator[Path]:
    own = os.environ.get(VARIABLE, "")
    for folder in (CONTENT, *([Path(own)] if own else [])):
        yield from sorted(folder.glob("*.toml"))[:MOST_FILES]


def _step(content: schema.Table, ask: schema.Table | None, texts: Mapping[str, str]) -> Step:
    return Step(
        text=content["text"],
        page=content["page"],
        view=_view(content.get("view", {}), texts),
        do=content.get("do", ""),
        ask=None if ask is None else _ask(ask),
        claims=tuple(Claim(each["text"], each["true"]) for each in content.get("claim", [])),
    )


def _view(choices: Mapping[str, str | float], texts: Mapping[str, str]) -> dict[str, str]:
    """Return the choices as a URL holds them, with the text in place of its name; a text is not continued."""
    view = {name: str(each).lower() if isinstance(each, bool) else str(each) for name, each in choices.items()}
    if "text" in view:
        view["prompt"] = texts[view.pop("text")]
    return view | ({"new": "0"} if "prompt" in view and "new" not in view else {})


def _ask(content: schema.Table) -> Ask:
    return Ask(
        question=content["question"],
        kind=content["kind"],
        answer=content["answer"],
        options=tuple(content.get("options", [])),
        tolerance=float(content.get("tolerance", 0)),
        why=content.get("why", ""),
    )
