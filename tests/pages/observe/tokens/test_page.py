import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from model.trace.trace import Token, Trace
from pages.common.menu import page_path
from pages.observe.tokens import tables, tabs
from pages.observe.tokens.tabs import PARTS, SIZES, TABLE
from tests.pages.conftest import charts, said
from tests.pages.fakes import FakeEngine
from tests.traces import random_trace

OpenApp = Callable[..., AppTest]
PAGE = page_path("tokens")
LOOKALIKE = "<｜begin▁of▁sentence｜>"


def spelling(*spelled: bytes, generated_from: int = 99) -> Trace:
    """A trace of BOS and these tokens."""
    random = random_trace(num_prompt=1 + len(spelled), num_new=0)
    tokens, text = [random.tokens[0]], b""
    for place, part in enumerate(spelled, 1):
        token_id = random.tokens[place].id
        tokens.append(Token(token_id, "x", len(text), len(text + part), place >= generated_from))
        text += part
    return dataclasses.replace(random, tokens=tuple(tokens), text=text)


def from_ids() -> Trace:
    random = random_trace()
    tokens = tuple(Token(token.id, "", 0, 0, token.generated) for token in random.tokens)
    return dataclasses.replace(random, tokens=tokens, text=b"")


def strip(app: AppTest) -> str:
    assert not app.exception
    return next(element.proto.body for element in app.get("html") if 'class="strip boundaries"' in element.proto.body)


def chips(app: AppTest) -> int:
    return strip(app).split('<div class="strip boundaries legend"')[0].count('<span class="chip')


def test_first_screen_of_the_recorded_run(show_at: OpenApp, engine: FakeEngine) -> None:
    app = show_at()
    assert chips(app) == 14
    assert "**14 tokens** (1 special) spell" in said(app)
    assert ":gray-badge[recorded]" in said(app)
    assert len(app.dataframe[0].value) == 14
    assert engine.requests == []


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


def test_link_restores_the_token_and_the_tab(show_at: OpenApp) -> None:
    app = show_at(spelling(b"Once", "é".encode()[:1], "é".encode()[1:]), token="2", of=PARTS)
    assert app.number_input(key="token").value == 2
    assert strip(app).count("chip chosen") == 1
    assert "1 byte C3, prompt; part 1 of 2 of `é`, tokens 2 to 3; code points U+00E9" in said(app)
    table = app.dataframe[0].value
    assert table["part"].tolist() == ["whole text", "prompt", "generated"]


def test_counts_of_the_parts() -> None:
    table = tables.by_part(spelling(b"Once", b" \xc3", b"\xa9", b"ab", generated_from=4))
    assert table["tokens"].tolist() == [5, 4, 1]
    assert table["special"].tolist() == [1, 1, 0]
    assert table["bytes"].tolist() == [9, 7, 2]
    assert table["characters"].tolist() == [8, 6, 2]
    assert table["bytes per token"].tolist() == [9 / 4, 7 / 3, 2]
    assert table["characters per token"].tolist() == [2, 2, 2]
    assert np.isnan(tables.by_part(spelling(b"a"))["bytes per token"][2])


def test_row_of_the_table_has_the_bytes() -> None:
    row = tables.by_token(spelling(b" a\n")).iloc[1]
    assert (row["text"], row["bytes"], row["as bytes"], row["kind"]) == ("·a⏎", 3, "20 61 0A", "text")


@pytest.mark.parametrize(
    ("part", "note"), [("all", "n = 3 tokens, mean 2 bytes"), ("generated", "n = 2 tokens, mean 1 bytes")]
)
def test_bytes_per_token_follow_the_switches(show_at: OpenApp, part: str, note: str) -> None:
    (figure,) = charts(show_at(spelling(b"Once", b"a", b"b", generated_from=2), of=SIZES, tokens=part))
    assert figure["layout"]["annotations"][0]["text"] == note


def test_no_token_of_the_kind_is_said_kindly(show_at: OpenApp) -> None:
    app = show_at(spelling(b"Once"), of=SIZES, tokens="generated")
    assert charts(app) == []
    assert "No token of this kind has text" in app.info[0].value


@pytest.mark.parametrize("tab", [TABLE, PARTS, SIZES])
def test_trace_made_from_ids_shows_ids(show_at: OpenApp, tab: str) -> None:
    app = show_at(from_ids(), of=tab)
    assert "without a tokenizer" in app.info[0].value
    assert chips(app) == 10
    assert f"#{from_ids().tokens[1].id}<" in strip(app)


def test_long_text_is_shown_in_parts(show_at: OpenApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabs, "SHOWN", 6)
    app = show_at(token="7")
    assert chips(app) == 6
    assert 'title="token 6,' in strip(app)
    app.selectbox(key="shown-1").set_value(12).run()
    assert chips(app) == 2
    app = show_at(token="7", **{"shown-1": "12 to 13 of 14"})
    assert (app.selectbox(key="shown-1").value, chips(app)) == (12, 2)


def test_no_trace(show_at: OpenApp, recorded: Path) -> None:
    (recorded / "story.safetensors").unlink()
    app = show_at()
    assert not app.exception
    assert "Nothing was run yet" in app.info[0].value
