"""Texts that look the same get the same spelling."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.train.data.curation.normalise import normalise


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("e\u0301te\u0301", "été"),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("\ufeffa\u200bb\u00adc\x00\x07", "abc"),
        ("a  \t\n\nb \n", "a\n\nb"),
        ("\tif x:\n\t\ty", "if x:\n\t\ty"),
        ("क\u094d\u200dष and 👩\u200d🚀", "क\u094d\u200dष and 👩\u200d🚀"),
        (" \n\t ", ""),
    ],
)
def test_by_hand(before: str, after: str) -> None:
    assert normalise(before) == after


@given(st.text(max_size=100))
def test_twice_is_once(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert "\r" not in once
