"""Random splitting of tokens that join punctuation and line breaks.

If `.⏎` is one token of a vocabulary, the two tokens `.` and `⏎` seldom follow each other in training. They do follow
each other after a prompt that ends with `.`. DeepSeek-V3 therefore splits "a certain proportion" of the joined tokens
in training.

Source: DeepSeek-V3 report (arXiv 2412.19437), section 4.1.
"""

import re
import unicodedata

import numpy as np
import tokenizers

from model.train.data.corpus import CorpusError

_JOINED = re.compile("([^Ċč]+)([Ċč]+)")  # line feed and carriage return, as byte-level vocabularies spell them


class JoinedTokens:
    """The tokens of a vocabulary that join punctuation and line breaks, with their two parts."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        """Find the joined tokens of a vocabulary whose two parts are tokens too."""
        self.parts: dict[int, tuple[int, int]] = {}
        for token, index in tokenizer.get_vocab(with_added_tokens=False).items():
            if joined := _JOINED.fullmatch(token):
                left, right = (tokenizer.token_to_id(part) for part in joined.groups())
                if left is not None and right is not None and _is_punctuation(tokenizer.decode([left])):
                    self.parts[index] = left, right
        self._joined = np.array(sorted(self.parts), np.int64)

    def split(self, ids: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
        """Return token ids in which a random share of the joined tokens is split into their two parts.

        Args:
            ids: token ids of any integer type; the result has the same type.
            share: probability of splitting each joined token, from 0 to 1.
            generator: random generator that chooses the tokens.

        Raises:
            CorpusError: the share is not from 0 to 1.
        """
        if not 0 <= share <= 1:
            raise CorpusError(f"the share of tokens to split must be from 0 to 1, not {share}")
        positions = np.flatnonzero(np.isin(ids, self._joined))
        positions = positions[generator.random(len(positions)) < share]
        if not len(positions):
            return ids
        lefts, rights = zip(*(self.parts[int(ids[position])] for position in positions), strict=True)
        result = np.insert(ids, positions + 1, np.array(rights, ids.dtype))
        result[positions + np.arange(len(positions))] = lefts
        return result


def _is_punctuation(text: str) -> bool:
    """Whether a text without its spaces is punctuation and symbols only; False for an incomplete character."""
    marks = text.strip(" ")
    return bool(marks) and "\ufffd" not in marks and all(unicodedata.category(mark)[0] in "PS" for mark in marks)
