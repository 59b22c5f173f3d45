"""The list of lessons, and a lesson walked through beside a page."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from pages.learn.lessons import lesson
from tests.pages.conftest import said
from tests.pages.learn.lessons.test_lesson import STUB

PAGE = page_path("lessons")
Show = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make the stub the only lesson, and add an empty folder of the operator."""
    monkeypatch.setattr(lesson, "CONTENT", STUB.parent)
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.setenv(lesson.VARIABLE, str(folder))
    return folder


def test_list_shows_goal_and_minutes_and_no_progress_at_first(show: Show) -> None:
    words = said(show())
    assert "**1. Two steps** See what a lesson can hold." in words
    assert "5 minutes, 2 steps. " in words
    assert "You are" not in words


def test_a_broken_lesson_is_named_and_the_others_open(show: Show, stub: Path) -> None:
    (stub / "a.toml").write_text(STUB.read_text().replace('kind = "expert"', 'kind = "<b>guess</b>"'))
    app = show()
    assert not app.exception
    (warning,) = app.warning
    assert "`a.toml`: line 21\\: kind is '\\<b\\>guess\\<\\/b\\>'; it must be one of" in warning.value
    assert [button.label for button in app.button if button.key.startswith("begin")] == ["Begin"]


def test_a_missing_folder_is_said(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lesson.VARIABLE, "/no/such")
    assert "which is no folder" in show().warning[0].value


def test_notes_for_teachers_hold_what_the_lesson_says(show: Show) -> None:
    words = said(show())
    assert "Ask before you show." in words
    assert "Students take `E3` for a layer." in words
    assert "1. The text has … tokens" in words


def test_progress_is_shown_and_can_be_forgotten(show: Show) -> None:
    app = show()
    app.button(key="begin-two-steps").click().run()
    app.button(key="lesson-next").click().run()
    app.switch_page(PAGE).run()
    assert not app.exception
    assert "You are at step 2." in said(app)
    assert app.button(key="begin-two-steps").label == "Continue"
    app.button(key="reset-progress").click().run()
    assert "You are at step" not in said(app)


def test_hostile_text_of_a_lesson_stays_text(show: Show, stub: Path) -> None:
    (stub / "b.toml").write_text(STUB.read_text().replace("See what", "![x](http://y) <script>alert(1)</script> $a$"))
    words = said(show())
    assert "\\!\\[x\\]\\(http\\:\\/\\/y\\) \\<script\\>" in words
    assert "<script>" not in words
