import dataclasses
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from pages.common.menu import page_path
from pages.observe.tokens import overview
from tests.pages.conftest import said
from tests.traces import spelling

OpenApp = Callable[..., AppTest]
PAGE = page_path("tokens")


LOOKALIKE = "<｜begin▁of▁sentence｜>"


def strip(app: AppTest) -> str:
    assert not app.exception
    return next(element.proto.body for element in app.get("html") if 'class="strip boundaries"' in element.proto.body)


def chips(app: AppTest) -> int:
    return strip(app).split('<div class="strip boundaries legend"')[0].count('<span class="chip')


def test_markup_and_lookalikes_in_a_prompt_are_text(show_at: OpenApp) -> None:
    app = show_at(spelling(b"<script>alert(1)", b"</script>", LOOKALIKE[:4].encode(), LOOKALIKE[4:].encode()))
    body = strip(app)
    assert "<script" not in body
    assert "&lt;script&gt;alert(1)" in body
    assert body.count('class="chip lookalike"') == 3  # two tokens and the legend
    assert body.count('class="chip special"') == 2  # BOS and the legend
    assert f"`{LOOKALIKE}` in tokens 3 to 4 is text that looks like a special token" in said(app)
    kinds = app.dataframe[0].value["kind"].tolist()
    assert kinds == ["special", "text", "text", "looks special", "looks special"]


@pytest.mark.parametrize(
    ("spelled", "number", "remark"),
    [
        ("👩‍👩‍👧‍👦".encode(), 1, "1 character is made of several tokens"),
        ("e\u0301".encode(), 1, "1 character is made of several tokens"),
        ("שלום".encode(), 4, "4 characters are made of several tokens"),
        (b"a\xff\xfe", 3, "2 bytes are not part of any character"),
    ],
    ids=["joined emoji", "combining mark", "Hebrew", "broken"],
)
def test_no_character_is_split_on_screen(show_at: OpenApp, spelled: bytes, number: int, remark: str) -> None:
    app = show_at(spelling(*(spelled[place : place + 1] for place in range(len(spelled)))))
    assert chips(app) == 1 + number
    assert remark in said(app)


@pytest.mark.parametrize(
    ("under", "words"), [("nothing", ""), ("id", "<small>0</small>"), ("bytes", "<small>4F</small>")]
)
def test_what_stands_below_each_token_can_be_chosen(show_at: OpenApp, under: str, words: str) -> None:
    body = strip(show_at(spelling(b"O", b"nce"), under=under))
    assert words in body
    assert ("<small>" in body) == (under != "nothing")


def test_long_text_is_shown_in_parts(show_at: OpenApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "MAX_CHIPS", 6)
    app = show_at(token="7")
    assert chips(app) == 6
    assert 'title="token 6,' in strip(app)
    app.selectbox(key="shown-1").set_value(12).run()
    assert chips(app) == 2
    app = show_at(token="7", **{"shown-1": "12 to 13 of 14"})
    assert (app.selectbox(key="shown-1").value, chips(app)) == (12, 2)


@pytest.mark.parametrize(
    ("prompt", "remark"),
    [
        ("Once", ""),
        (None, ""),
        ("nce", "changes the prompt"),
        (" Once", "changes the prompt"),
    ],
)
def test_a_prompt_that_the_tokenizer_changes_is_named(prompt: str | None, remark: str) -> None:
    trace = spelling(b"O", b"nce")
    remarks = overview.remarks(dataclasses.replace(trace, request={**trace.request, "prompt": prompt}))
    assert [line for line in remarks if "tokenizer" in line and remark in line] == (remarks if remark else [])


def test_notes_on_the_first_tokens_are_shown() -> None:
    trace = spelling(b"Once")
    noted = dataclasses.replace(trace, origin={**trace.origin, "notes": ["runs begin with <s>, as stated"]})
    assert overview.remarks(noted) == ["Runs begin with \\<s\\>, as stated."]


def test_a_space_that_the_tokenizer_adds_is_named() -> None:
    trace = spelling(b" O", b"nce")
    remarks = overview.remarks(dataclasses.replace(trace, request={**trace.request, "prompt": "Once"}))
    assert remarks == ["The tokenizer puts a space before the text, which the first token with text holds."]
