"""Splitting tokens that join punctuation and line breaks, for a random share of their occurrences.

A model whose vocabulary has `.⏎` as one token hardly ever sees `.` and then `⏎`, which is what it meets after a prompt
that ends without a line break. DeepSeek-V3 splits "a certain proportion" of such tokens in training.

Source: DeepSeek-V3 report (arXiv 2412.19437), section 4.1.
"""

import re
import unicodedata

import numpy as np
import tokenizers

from model.train.data.corpus import CorpusError

_JOINED = re.compile("([^Ċč]+)([Ċč]+)")  # line feed and carriage return, as byte-level vocabularies spell them


class JoinedTokens:
    """The tokens of a vocabulary that join punctuation and line breaks, with the two tokens that each falls into."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        """Look through the vocabulary; a token counts if both its parts are tokens."""
        self.parts: dict[int, tuple[int, int]] = {}
        for token, index in tokenizer.get_vocab(with_added_tokens=False).items():
            if joined := _JOINED.fullmatch(token):
                left, right = (tokenizer.token_to_id(part) for part in joined.groups())
                if left is not None and right is not None and _is_punctuation(tokenizer.decode([left])):
                    self.parts[index] = left, right
        self._joined = np.array(sorted(self.parts), np.int64)

    def split(self, ids: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
        """Ids of the same text, with a random share of the joined tokens split into two.

        Args:
            ids: token ids of any integer type, which the result has too.
            share: the probability, from 0 to 1, with which each joined token is split.
            generator: decides which.

        Raises:
            CorpusError: the share is not from 0 to 1.
        """
        if not 0 <= share <= 1:
            raise CorpusError(f"a share is from 0 to 1, not {share}")
        places = np.flatnonzero(np.isin(ids, self._joined))
        places = places[generator.random(len(places)) < share]
        if not len(places):
            return ids
        lefts, rights = zip(*(self.parts[int(ids[place])] for place in places), strict=True)
        result = np.insert(ids, places + 1, np.array(rights, ids.dtype))
        result[places + np.arange(len(places))] = lefts
        return result


def _is_punctuation(text: str) -> bool:
    """Whether it is nothing but punctuation and symbols, after a space perhaps; part of a character is neither."""
    marks = text.strip(" ")
    return bool(marks) and "\ufffd" not in marks and all(unicodedata.category(mark)[0] in "PS" for mark in marks)
