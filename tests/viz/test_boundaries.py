import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.traces import random_trace
from tests.viz.parts import Part
from viz.boundaries import BYTES, CSS, ID, LEGEND, NOTHING, UNDER, describe, text_with_boundaries
from viz.tokens import short_name


class Reader(HTMLParser):
    """Reads HTML as a browser does: classes, title and texts of every chip, and no other element."""

    def __init__(self) -> None:
        super().__init__()
        self.chips: list[tuple[list[str], str, str]] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = dict(attrs)
        if tag == "span" and "class" in found:
            self.chips.append(((found["class"] or "").split(), found["title"] or "", ""))

    def handle_data(self, data: str) -> None:
        classes, title, words = self.chips[-1]
        self.chips[-1] = (classes, title, words + data)


def tokens_of(*spelled: str, generated_from: int = 99) -> tuple[list[Part], bytes]:
    tokens, text = [Part(0, "<｜begin▁of▁sentence｜>", 0, 0, special=True)], b""
    for place, part in enumerate(spelled, 1):
        tokens.append(Part(10 + place, part, len(text), len(text + part.encode()), place >= generated_from))
        text += part.encode()
    return tokens, text


def read(tokens: list[Part], text: bytes, under: str = NOTHING, **options) -> Reader:
    reader = Reader()
    reader.feed(text_with_boundaries(tokens, text, under, **options))
    return reader


def test_kinds_of_tokens_are_told_apart():
    tokens, text = tokens_of("Once", " a", "\n", generated_from=2)
    chips = read(tokens, text, chosen=1).chips
    assert [classes for classes, *_ in chips] == [
        ["chip", "special"], ["chip", "chosen"], ["chip", "generated"], ["chip", "generated"]
    ]  # fmt: skip
    assert [words for *_, words in chips] == ["begin of sentence", "Once", "·a", "⏎"]
    assert text_with_boundaries(tokens, text).count("<br>") == 1


def test_markup_in_a_text_is_text():
    tokens, text = tokens_of("<script>alert(1)", "</script>", '"><img src=x onerror=alert(1)>', "&amp;")
    reader = read(tokens, text)
    assert reader.tags == {"div", "span", "bdi", "i"}
    assert [words for *_, words in reader.chips[1:]] == [
        "<script>alert(1)", "</script>", '"><img·src=x·onerror=alert(1)>', "&amp;"
    ]  # fmt: skip


def test_markup_in_a_vocabulary_is_text():
    reader = read([Part(1, '"><script>', 0, 0, special=True), Part(2, "<b>", 0, 0)], b"", BYTES)
    assert reader.tags <= {"div", "span", "bdi", "small"}
    assert reader.chips[0][1] == 'token 0, id 1, no text, prompt, special, "><script>'


def test_text_that_looks_like_a_special_token_is_marked_and_is_none():
    tokens, text = tokens_of("a<", "｜User", "｜>", "b")
    assert [classes[1:] for classes, *_ in read(tokens, text).chips] == [
        ["special"], ["lookalike"], ["lookalike"], ["lookalike"], []
    ]  # fmt: skip


def test_a_character_of_several_tokens_names_all_of_them():
    text = "€".encode()
    tokens = [Part(7 + place, "", place, place + 1) for place in range(3)]
    (chip,) = read(tokens, text, ID).chips
    assert chip == (["chip"], "tokens 0 to 2, one character, id 7 8 9, 3 bytes E2 | 82 | AC, prompt", "€7 8 9")
    assert read(tokens, text, BYTES).chips[0][2] == "€E2 | 82 | AC"
    assert read(tokens, text, chosen=1).chips[0][0] == ["chip", "chosen"]


def test_words_of_one_token():
    tokens, text = tokens_of(" a", generated_from=1)
    assert describe(tokens, text, 1, 1) == "token 1, id 11, 2 bytes 20 61, generated"
    assert describe(tokens, text, 0, 0) == "token 0, id 0, no text, prompt, special, <｜begin▁of▁sentence｜>"


@pytest.mark.parametrize(
    ("piece", "name"),
    [
        ("<｜User｜>", "User"),
        ("<bos>", "bos"),
        ("", "#4"),
        ("<|>", "<|>"),
        ("a\u202eb", "a\\u202eb"),
        ("\ud800", "\\xed\\xa0\\x80"),
    ],
    ids=ascii,
)
def test_names_of_tokens_without_text(piece, name):
    assert short_name(Part(4, piece, 0, 0)) == name


def test_a_part_of_a_long_text_can_be_shown():
    trace = random_trace()
    shown = read(list(trace.tokens), trace.text, shown=range(2, 5)).chips
    assert [title.split(",")[0] for _, title, _ in shown] == ["token 2", "token 3", "token 4"]


@given(st.text(max_size=30), st.sampled_from(UNDER))
def test_any_text_is_shown_whole_and_escaped(text, under):
    tokens = [Part(1, "x", 0, len(text.encode("utf-8", "replace")))]
    reader = read(tokens, text.encode("utf-8", "replace"), under)
    assert reader.tags <= {"div", "span", "bdi", "i", "small", "br"}
    assert len(reader.chips) == 1


def test_nothing_is_smaller_than_twelve_pixels_or_comes_from_elsewhere():
    assert min(map(int, re.findall(r"font(?:-size)?: (?:calc\()?(\d+)px", CSS))) >= 12
    assert "url(" not in CSS + LEGEND
    for kind in ("generated", "special", "lookalike"):
        assert f"chip {kind}" in LEGEND
