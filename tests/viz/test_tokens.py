from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.traces import random_trace
from tests.viz.characters import CHARACTERS
from tests.viz.parts import Part
from viz import tokens
from viz.theme import LIGHT
from viz.tokens import (
    INVISIBLE,
    bytes_per_token,
    chips,
    inside_characters,
    special_lookalikes,
    token_labels,
    visible,
    visible_parts,
)


def parts(*lengths: int) -> list[Part]:
    ends = np.cumsum(lengths)
    return [Part(9, "x", int(end - length), int(end)) for length, end in zip(lengths, ends, strict=True)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b" a\tb\n", "·a→b⏎"),
        ("é".encode(), "é"),
        (b"\xff\xc3", "\\xff\\xc3"),
        (b"\r\x00\x7f", "␍␀␡"),
        ("a\u202eb\u00a0\u200b\ufeff".encode(), "a\\u202eb\\u00a0\\u200b\\ufeff"),
        ("\u0085\u3000".encode(), "\\u0085\\u3000"),
        ("👩\u200d🚀 می\u200cروم".encode(), "👩\u200d🚀·می\u200cروم"),
        ("\u200d".encode(), "\\u200d"),
        (b"<script>&", "<script>&"),
        (b"<b>", "<b>"),
        (b"", ""),
    ],
)
def test_white_space_and_bytes_are_visible(text, shown):
    assert visible(text) == shown


def test_signs_are_told_apart_from_text_that_looks_like_them():
    assert list(visible_parts("·\t\n·".encode())) == [("·", False), ("→⏎", True), ("·", False)]


def test_the_browser_has_the_same_pattern():
    script = (Path(tokens.__file__).parent / "lens" / "text.js").read_text(encoding="utf-8")
    assert f"/((?:{INVISIBLE})+)/u" in script


def test_a_character_of_three_tokens_is_one_chip():
    text = "a€b".encode()
    assert chips(parts(1, 1, 1, 1, 1), text) == [(0, 0, "a"), (1, 3, "€"), (4, 4, "b")]
    assert token_labels(parts(1, 1, 1, 1, 1), text) == ["a", "€", "…", "…", "b"]


def test_invalid_bytes_are_chips_of_their_own():
    assert chips(parts(1, 1, 1), b"\xe2\x82a") == [(0, 0, "\\xe2"), (1, 1, "\\x82"), (2, 2, "a")]


@pytest.mark.parametrize("seen", ["n\u0303", "👩‍👩‍👧‍👦", "🇫🇷", "👍🏽", "क्षि", "각"], ids=ascii)
def test_what_is_seen_as_one_character_is_one_chip(seen):
    text = f"a{seen}b".encode()
    by_character = parts(1, *(len(character.encode()) for character in seen), 1)
    assert chips(by_character, text) == [(0, 0, "a"), (1, len(seen), seen), (len(seen) + 1, len(seen) + 1, "b")]
    by_byte = chips(parts(*[1] * len(text)), text)
    assert [display for *_, display in by_byte] == ["a", seen, "b"]


@pytest.mark.parametrize("characters", CHARACTERS, ids=ascii)
def test_characters_of_known_texts(characters):
    text = "".join(characters).encode("utf-8", errors="surrogateescape")
    ends = np.cumsum([0, *(len(one.encode("utf-8", errors="surrogateescape")) for one in characters)])
    assert np.flatnonzero(~inside_characters(text)).tolist() == ends.tolist()


def test_a_mark_after_a_line_feed_stands_alone():
    assert [display for *_, display in chips(parts(1, 2), "\n\u0301".encode())] == ["⏎", "\u0301"]


def test_lookalikes_of_special_tokens_are_found_by_their_bytes():
    text = "é <｜begin▁of▁sentence｜> <b> a<b|c <|user|></s>".encode()
    assert [text[start:end].decode() for start, end in special_lookalikes(text)] == [
        "<｜begin▁of▁sentence｜>",
        "<|user|>",
        "</s>",
    ]
    assert special_lookalikes(b"\xff<|a|>") == [(1, 6)]


def test_overlong_and_surrogate_bytes_are_no_characters():
    assert not inside_characters(b"\xed\xa0\x80").any()
    assert not inside_characters(b"\xe0\x80\x80").any()


def test_special_tokens_and_tokens_without_text_have_a_name():
    tokens = [Part(0, "<bos>", 0, 0), Part(5, "x", 0, 1), Part(7, "", 1, 1)]
    assert chips(tokens, b"x") == [(0, 0, "bos"), (1, 1, "x"), (2, 2, "#7")]


def test_one_token_and_none():
    assert chips(parts(1), b"a") == [(0, 0, "a")]
    assert chips([], b"") == []


@given(st.binary(max_size=40), st.data())
def test_chips_cover_every_token_once_and_spell_the_text(text, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=12)) if len(text) > 1 else [])
    ends = [*cuts, len(text)] if text else []
    tokens = parts(*np.diff([0, *ends]).tolist())
    shown = chips(tokens, text)
    covered = [index for first, last, _ in shown for index in range(first, last + 1)]
    assert covered == list(range(len(tokens)))
    assert "".join(display for *_, display in shown) == visible(text)


def test_chips_of_a_trace_are_as_many_as_its_tokens_when_none_shares_a_character():
    trace = random_trace()
    assert [first for first, *_ in chips(trace.tokens, trace.text)] == list(range(trace.num_tokens))


def test_bytes_per_token_leaves_special_tokens_out():
    figure = bytes_per_token(np.array([0, 1, 3, 3]), LIGHT)
    assert figure.data[0].x.tolist() == [1, 2, 3]
    assert figure.data[0].y.tolist() == [1, 0, 2]
    assert figure.layout.annotations[0].text == "n = 3 tokens, mean 2.33 bytes"
    assert bytes_per_token(np.array([0]), LIGHT).layout.annotations[0].text == "n = 0 tokens"
