"""The number of tokens, bytes and characters of a text or of a part of it.

>>> tokens_by_size(np.array([4, 1, 0, 1])).tolist()
[2, 0, 0, 1]
"""

from typing import NamedTuple

import numpy as np

from model.trace.trace import Trace


class TokenCounts(NamedTuple):
    """Counts of some tokens of a text.

    Attributes:
        tokens: number of tokens, including special tokens.
        special: number of special tokens.
        bytes: number of bytes of the tokens' text.
        characters: number of characters (grapheme clusters) that begin in these tokens.
        bytes_per_token: mean over the tokens that have text; NaN if there are none.
        characters_per_token: mean over the tokens that have text; NaN if there are none.
    """

    tokens: int
    special: int
    bytes: int
    characters: int
    bytes_per_token: float
    characters_per_token: float


def sizes(trace: Trace) -> np.ndarray:
    """Return the number of bytes of every token, [token]; 0 for a token without text."""
    return np.array([token.end - token.start for token in trace.tokens])


def count(trace: Trace, mask: np.ndarray, inside_character: np.ndarray) -> TokenCounts:
    """Return the counts of the tokens in a mask.

    Args:
        trace: trace with the tokens and the text.
        mask: tokens to count, [token] bool.
        inside_character: whether a cut before the byte would split a character, [byte + 1] bool; the last entry is the
            end of the text.
    """
    lengths, special = sizes(trace)[mask], trace.special_mask.values[mask]
    of_mask = np.repeat(mask, sizes(trace))  # mask of the text's bytes that belong to counted tokens
    with_text, characters = int((lengths > 0).sum()), int((~inside_character)[:-1][of_mask].sum())
    return TokenCounts(
        tokens=int(mask.sum()),
        special=int(special.sum()),
        bytes=int(lengths.sum()),
        characters=characters,
        bytes_per_token=lengths.sum() / with_text if with_text else np.nan,
        characters_per_token=characters / with_text if with_text else np.nan,
    )


def tokens_by_size(lengths: np.ndarray) -> np.ndarray:
    """Return how many tokens have 1, 2, ... bytes; `lengths` has the size of each token. Empty tokens are left out."""
    return np.bincount(lengths[lengths > 0])[1:]
