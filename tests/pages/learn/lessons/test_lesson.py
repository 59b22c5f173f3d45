"""The folders of lessons: what a file becomes, and files that are no lesson."""

from pathlib import Path

import pytest

from pages.learn.lessons import lesson
from pages.learn.lessons.lesson import Broken, Lesson

STUB = Path(__file__).parent / "stub" / "two-steps.toml"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(lesson.VARIABLE, str(tmp_path))
    return tmp_path


def test_file_becomes_a_lesson() -> None:
    loaded = lesson.load(STUB)
    assert (loaded.name, loaded.title, loaded.minutes, len(loaded.steps), len(loaded.test)) == (
        "two-steps", "Two steps", 5, 2, 1,
    )  # fmt: skip
    first, second = loaded.steps
    assert first.view == {"prompt": "The sun", "new": "4", "layer": "2", "token": "4"}
    assert first.ask is not None
    assert (first.ask.kind, first.ask.answer, first.ask.options) == ("expert", "expert(4, 2)", ())
    assert [claim.true for claim in first.claims] == ["experts_per_token() == 2"]
    assert second.view["layer"] == "=1 + 1"
    assert second.ask is not None
    assert second.ask.options == ("yes", "no")
    (test,) = loaded.test
    assert test.ask is not None
    assert (test.page, test.view) == ("routing", {"prompt": "The sun", "new": "0", "layer": "1"})
    assert loaded.pages == (first, second, test)
    assert [loaded.question(number) for number in range(3)] == ["two-steps/1", "two-steps/2", "two-steps/test/1"]
    assert (test.ask.tolerance, loaded.say[0], len(loaded.errors)) == (0.1, "Ask before you show.", 1)


def test_folder_of_the_operator_is_added_after_the_lessons_of_the_app(own: Path) -> None:
    before = list(lesson.available())
    (own / "mine.toml").write_text(STUB.read_text())
    assert list(lesson.available()) == [*before, "mine"]


def test_a_broken_file_is_named_and_the_others_open(own: Path) -> None:
    (own / "a.toml").write_text(STUB.read_text().replace('kind = "expert"', 'kind = "guess"'))
    (own / "b.toml").write_text(STUB.read_text())
    found = lesson.available()
    assert found["a"] == Broken("a.toml", "line 21: kind is 'guess'; it must be one of choice, number, token, expert")
    assert isinstance(found["b"], Lesson)


def test_a_number_that_python_cannot_write_breaks_one_lesson_only(own: Path) -> None:
    (own / "a.toml").write_text(STUB.read_text().replace("view = {", f"view = {{ x = 0x{'f' * 3_900},", 1))
    (own / "b.toml").write_text(STUB.read_text())
    found = lesson.available()
    assert found["a"] == Broken("a.toml", "a number of the file is too long")
    assert isinstance(found["b"], Lesson)


def test_a_changed_file_is_read_again(own: Path) -> None:
    path = own / "a.toml"
    path.write_text("title = ")
    assert isinstance(lesson.available()["a"], Broken)
    path.write_text(STUB.read_text())
    assert isinstance(lesson.available()["a"], Lesson)


def test_two_files_of_the_same_name_do_not_replace_each_other(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lesson, "CONTENT", STUB.parent)
    (own / STUB.name).write_text(STUB.read_text())
    found = lesson.available()
    assert isinstance(found["two-steps"], Lesson)
    assert isinstance(found["two-steps (own)"], Broken)


def test_a_folder_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lesson.folder_error() is None or lesson.VARIABLE
    monkeypatch.setenv(lesson.VARIABLE, "/no/such/folder")
    assert lesson.folder_error() == "MOE_LOUPE_LESSONS is '/no/such/folder', which is no folder"
    assert all("two-steps" not in name for name in lesson.available())


def test_every_lesson_of_the_app_opens() -> None:
    broken = [found for found in lesson.available().values() if isinstance(found, Broken)]
    assert broken == []
