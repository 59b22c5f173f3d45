"""Texts that came before: exactly, but for case and white space, or nearly, by MinHash over runs of five units.

Only hashes and signatures are held, about 700 bytes for a text.

Source: Broder, "On the resemblance and containment of documents" (1997).
"""

import hashlib
from typing import Any

import numpy as np

from model.train.data.corpus import CorpusError
from model.train.data.curation.features import Text

RUN = 5
HASHES = 64
NEAR = 0.8  # resemblance from which two texts count as one


class ExactDuplicates:
    """Remembers texts and says of each whether it came before."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def came_before(self, text: str) -> bool:
        """Whether a text of the same words came before; remembers it."""
        digest = hashlib.blake2b(" ".join(text.casefold().split()).encode(), digest_size=16).digest()
        seen = digest in self._seen
        self._seen.add(digest)
        return seen


class NearDuplicates:
    """Remembers signatures and says of each text how much one that came before resembles it."""

    def __init__(self) -> None:
        """Make an empty memory.

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
        """Estimated share of runs in common with the most similar earlier text, if that is at least `NEAR`, else 0.

        The text is remembered unless it is such a near duplicate. A text of fewer than five units resembles none.
        """
        runs = text.runs(RUN)
        if not len(runs):
            return 0.0
        signature = self._empty.copy()
        signature.update_batch((runs >> np.uint64(32)).tolist())
        values = signature.hashvalues
        found: Any = self._index.query(signature)  # the numbers under which texts were remembered
        best = max((float(np.mean(self._signatures[key] == values)) for key in found), default=0)
        if best >= NEAR:
            return best
        self._index.insert(len(self._signatures), signature)
        self._signatures.append(values.astype(np.uint32))
        return 0.0


def _as_it_is(number: int) -> int:
    return number
