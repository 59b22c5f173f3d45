"""Overlap with held-out text: the share of a text's runs of 13 units that occur in held-out text.

A unit is a word, or one character of a script without spaces between words (features.py). Runs overlap.

Source: Brown et al., "Language models are few-shot learners" (arXiv 2005.14165), appendix C, for runs of 13.
"""

from collections.abc import Iterable

import numpy as np

from model.train.data.corpus import Record
from model.train.data.curation.features import Text

RUN = 13
LIMIT = 0.3  # drop a text above this share; templates and common phrases reach 0.1 without contamination


class HeldOut:
    """The runs of 13 units in held-out text, as sorted hashes."""

    def __init__(self, records: Iterable[Record]) -> None:
        """Hash the runs of 13 units of every held-out record; each run takes 8 bytes of memory."""
        runs = [Text.of(record).runs(RUN) for record in records]
        self._runs = np.unique(np.concatenate(runs)) if runs else np.empty(0, np.uint64)

    def __len__(self) -> int:
        return len(self._runs)

    def overlap(self, text: Text) -> float:
        """Return the share of the text's runs of 13 units that occur in held-out text; 0 for fewer than 13 units."""
        runs = text.runs(RUN)
        if not len(runs) or not len(self._runs):
            return 0.0
        positions = np.searchsorted(self._runs, runs)
        return float(np.mean(self._runs[np.minimum(positions, len(self._runs) - 1)] == runs))
