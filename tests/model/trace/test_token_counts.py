import doctest

import numpy as np

from model.trace import token_counts
from tests.traces import spelling


def test_sizes() -> None:
    assert token_counts.sizes(spelling(b"Once", b" a")).tolist() == [0, 4, 2]


def test_counts_of_a_character_of_two_tokens() -> None:
    """`Once é` of six characters and seven bytes: the last byte is inside a character."""
    trace = spelling(b"Once", b" \xc3", b"\xa9")
    inside = np.array([False] * 6 + [True, False])
    every = token_counts.count(trace, np.ones(4, bool), inside)
    assert every == (4, 1, 7, 6, 7 / 3, 2)
    last = token_counts.count(trace, np.array([False, False, False, True]), inside)
    assert last == (1, 0, 1, 0, 1, 0)


def test_tokens_without_text_have_no_mean() -> None:
    counts = token_counts.count(spelling(b"a"), np.array([True, False]), np.array([False, False]))
    assert counts[:4] == (1, 1, 0, 0)
    assert np.isnan(counts.bytes_per_token)
    assert np.isnan(counts.characters_per_token)


def test_no_token_with_text_has_no_size() -> None:
    assert token_counts.tokens_by_size(np.array([0, 0])).tolist() == []
    assert doctest.testmod(token_counts) == (0, 1)
