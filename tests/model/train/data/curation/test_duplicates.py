"""Texts that came before, exactly or nearly, and text that is held out."""

import random
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.train.data.corpus import CorpusError, Record
from model.train.data.curation.contamination import LIMIT, HeldOut
from model.train.data.curation.duplicates import NEAR, ExactDuplicates, NearDuplicates
from model.train.data.curation.features import Text

WORDS = [f"word{number}" for number in range(900)]


def prose(seed: int, length: int = 300) -> list[str]:
    return random.Random(seed).choices(WORDS, k=length)


def record(text: str) -> Record:
    return Record(text, "stories", "en", "a source", "CC0-1.0")


def test_same_words_are_exact_duplicates() -> None:
    memory = ExactDuplicates()
    assert [memory.came_before(text) for text in ("A fox ran.", "a  FOX\nran.", "A fox ran!", "A fox ran!")] == [
        False, True, False, True,
    ]  # fmt: skip


def test_near_duplicate_is_found_and_different_text_is_not() -> None:
    memory = NearDuplicates()
    words = prose(0)
    assert memory.resemblance(Text(" ".join(words))) == 0
    assert memory.resemblance(Text(" ".join(prose(1)))) == 0
    changed = [*words[:150], "another", *words[151:]]
    assert memory.resemblance(Text(" ".join(changed))) >= NEAR
    assert memory.resemblance(Text(" ".join(words[:150] + prose(2, 150)))) == 0


def test_characters_count_where_there_are_no_spaces() -> None:
    memory = NearDuplicates()
    text = "船夫看了看天空把桨搬到屋檐下因为傍晚要下雨了他不想把桨留在船上于是慢慢走回家去了"
    assert memory.resemblance(Text(text)) == 0
    assert memory.resemblance(Text(f"{text}。")) == 1


def test_too_short_text_resembles_nothing() -> None:
    memory = NearDuplicates()
    assert [memory.resemblance(Text("four words are few")) for _ in range(2)] == [0, 0]


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(CorpusError, match=r"need datasketch: pip install -r requirements-train\.txt"):
        NearDuplicates()


def test_held_out_text_is_found_within_other_text() -> None:
    held, own = prose(5, 100), prose(6, 100)
    heldout = HeldOut([record(" ".join(held))])
    assert len(heldout) == 88
    assert heldout.overlap(Text(" ".join(held))) == 1
    assert heldout.overlap(Text(" ".join(own))) == 0
    assert heldout.overlap(Text(" ".join(own + held[:50]))) == pytest.approx(38 / 138)
    assert heldout.overlap(Text(" ".join(own + held[:13]))) < LIMIT
    assert heldout.overlap(Text(" ".join(held[:12]))) == 0
    assert HeldOut([]).overlap(Text(" ".join(held))) == 0


@given(st.lists(st.sampled_from(["a", "b", "cc", "船"]), max_size=40), st.integers(1, 15))
def test_runs_are_equal_where_their_units_are(units: list[str], length: int) -> None:
    runs = Text(" ".join(units)).runs(length)
    pieces = [tuple(units[place : place + length]) for place in range(len(units) - length + 1)]
    assert len(runs) == len(pieces)
    assert len(np.unique(runs)) == len(set(pieces))
