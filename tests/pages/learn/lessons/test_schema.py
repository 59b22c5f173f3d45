"""The schema refuses what is no lesson, in one line that names the file's line."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies

from pages.learn.lessons import schema
from pages.learn.lessons.schema import LessonError, line_of, read
from tests.pages.learn.lessons.test_lesson import STUB

TEXT = STUB.read_text(encoding="utf-8")


def refusal(tmp_path: Path, content: str | bytes) -> str:
    path = tmp_path / "lesson.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(LessonError) as caught:
        read(path)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 900
    return str(caught.value)


def line(words: str) -> int:
    """The number of the first line that begins with these words."""
    return next(number for number, each in enumerate(TEXT.splitlines(), 1) if each.startswith(words))


@pytest.mark.parametrize(
    ("old", "new", "at", "words"),
    [
        ("schema = 1", "schema = 2", "schema", "schema must be a whole number from 1 to 1"),
        ('title = "Two steps"', "title = 3", "title", "title must be a text"),
        ('title = "Two steps"\n', "", "# A", "title is missing"),  # no line of its own: the first
        ("minutes = 5", "minutes = true", "minutes", "whole number from 1 to 240"),
        ('page = "routing"', 'page = "rooting"', "page", "page is 'rooting'; it must be one of architecture"),
        ("layer = 2,", "layer = [2],", "view", "a choice is a text or a number"),
        ("layer = 2,", 'layer = "=expart(4, 2)",', "view", "layer: no fact is named 'expart'"),
        ("{tokens()}", "{tokenz()}", "text", "no fact is named 'tokenz'"),
        ("{tokens()}", "{tokens()", "text", "a brace stands alone"),
        ('answer = "expert(4, 2)"', "answer = 3", "answer", "answer must be a text"),
        ('answer = "expert(4, 2)"', "", "[step.ask]", "answer is missing"),
        ('answer = "expert(4, 2)"', 'answer = "expert(4)"', "answer", "missing a required argument: 'layer'"),
        ('true = "experts_per_token() == 2"', 'true = "a.b"', "true", "true: 'a.b' holds something else"),
        ('kind = "expert"', 'kind = "choice"', "[step.ask]", "a choice needs options"),
        ('options = ["yes", "no"]', 'options = ["yes"]', "options", "options must be a list of 2 to 8"),
        ("tolerance = 0.1", "tolerance = 7", "tolerance", "tolerance must be a number from 0 to 1"),
        ('do = "Press an expert."', 'dont = "x"', "do", "a lesson has no key 'dont' here; known: text, page"),
        ('say = ["Ask before you show.", ', "say = [7, ", "say", "say must be a text"),
        ('text = "sun", new', 'text = "moon", new', "view", "text is 'moon'; [texts] has sun"),
        ('text = "sun", new', 'text = "sun", prompt = "x", new', "view", "view has both text and prompt"),
        ('sun = "The sun"', "sun = 3", "sun", "sun must be a text"),
        ("[[test]]", "[[tests]]", "[[test]]", "a lesson has no key 'tests' here"),
        ("minutes = 5", "minutes = ", "minutes", "Invalid value"),
        ("minutes = 5", "minutes = 5\nminutes = 6", None, "Cannot overwrite a value"),
    ],
)
def test_wrong_lesson_is_refused_with_its_line(tmp_path: Path, old: str, new: str, at: str | None, words: str) -> None:
    assert old in TEXT
    message = refusal(tmp_path, TEXT.replace(old, new))
    assert words in message
    if at is not None:
        assert message.startswith(f"line {line(at)}:")


def test_hostile_files_are_refused_in_one_line(tmp_path: Path) -> None:
    assert "not UTF-8" in refusal(tmp_path, b"schema = 1\ntitle = '\xff'")
    assert "line 2" in refusal(tmp_path, b"schema = 1\ntitle = '\xff'")
    assert "at most 262,144" in refusal(tmp_path, "#" * (schema.MOST_BYTES + 1))
    refusal(tmp_path, "a = " + "[" * 5_000)
    assert "line 2" in refusal(tmp_path, "schema = 1\n" + ".".join("a" * 100_000) + " = 1")
    refusal(tmp_path, TEXT + f"\nx = [\n[{' ' * 3_000}\n]]\n")  # a search for its line in cubic time takes hours
    refusal(tmp_path, TEXT + f"\nx = {'9' * 3_990}9\n")
    assert "belongs to the visitor" in refusal(tmp_path, TEXT.replace("view = {", 'view = { room = "QQQQQQ",', 1))
    refusal(tmp_path, "[a." * 3 + "]")
    refusal(tmp_path, "")
    refusal(tmp_path, TEXT + "\n[[step]]\n" * 50)
    refusal(tmp_path, TEXT.replace("See what", "x" * 2_001))
    assert "known: " in refusal(tmp_path, TEXT + f'\n"{"<b>" * 99}" = 1\n')


@given(strategies.text(max_size=80), strategies.integers(0, len(TEXT)))
@settings(max_examples=50)
def test_no_text_ends_in_another_error(tmp_path_factory: pytest.TempPathFactory, noise: str, at: int) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.toml"
    path.write_text(TEXT[:at] + noise + TEXT[at:], encoding="utf-8", errors="replace")
    with contextlib.suppress(LessonError):
        read(path)


def test_line_of_a_value_counts_tables_and_skips_long_texts() -> None:
    text = 'a = """\n[[step]]\nb = 1\n"""\n[[step]]\nx = 1\n[[step]]\nx = 2\n'
    text += "[step.ask]\nanswer = 1\n[[step.claim]]\ny = 1\n"
    assert line_of(text, ("a",)) == 1
    assert line_of(text, ("step", 0, "x")) == 6
    assert line_of(text, ("step", 1, "x")) == 8
    assert line_of(text, ("step", 1, "ask", "answer")) == 10
    assert line_of(text, ("step", 1, "claim", 0, "y")) == 12
    assert line_of(text, ("step", 1, "missing")) == 7
    assert line_of(text, ("missing",)) == 1
