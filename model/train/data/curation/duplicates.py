"""Finds duplicates of earlier texts: equal except for case and white space, or similar by MinHash over runs of 5 units.

A unit is a word, or one character of a script without spaces between words (features.py). Memory holds only hashes and
signatures, about 700 bytes per text.

Source: Broder, "On the resemblance and containment of documents" (1997).
"""

import hashlib
from typing import Any

import numpy as np

from model.train.data.corpus import CorpusError
from model.train.data.curation.features import Text

RUN = 5
HASHES = 64
NEAR = 0.8  # lowest resemblance of a near duplicate


class ExactDuplicates:
    """Finds texts that equal an earlier text except for case and white space."""

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    def came_before(self, text: str) -> bool:
        """Return whether an earlier text equals this text except for case and white space; store the text's hash."""
        digest = hashlib.blake2b(" ".join(text.casefold().split()).encode(), digest_size=16).digest()
        is_known = digest in self._digests
        self._digests.add(digest)
        return is_known


class NearDuplicates:
    """Finds texts that resemble an earlier text."""

    def __init__(self) -> None:
        """Start without earlier texts.

        Raises:
            CorpusError: datasketch is not installed.
        """
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError as error:
            raise CorpusError("near duplicates need datasketch: pip install -r requirements-train.txt") from error
        self._empty = MinHash(num_perm=HASHES, hashfunc=_as_it_is)
        self._index = MinHashLSH(threshold=NEAR, num_perm=HASHES)
        self._signatures: list[np.ndarray] = []

    def resemblance(self, text: Text) -> float:
        """Return the estimated share of five-unit runs that a text has in common with the most similar earlier text.

        A share below `NEAR` is returned as 0. A text of fewer than five units gets 0, and its signature is not stored.
        The signature of a longer text is stored unless the text is a near duplicate.
        """
        runs = text.runs(RUN)
        if not len(runs):
            return 0.0
        signature = self._empty.copy()
        signature.update_batch((runs >> np.uint64(32)).tolist())
        values = signature.hashvalues
        candidates: Any = self._index.query(signature)  # numbers of earlier texts
        best = max((float(np.mean(self._signatures[key] == values)) for key in candidates), default=0)
        if best >= NEAR:
            return best
        self._index.insert(len(self._signatures), signature)
        self._signatures.append(values.astype(np.uint32))
        return 0.0


def _as_it_is(number: int) -> int:
    return number
