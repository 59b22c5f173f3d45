"""Text that is measured on must not be trained on: the share of a text's runs of 13 units that held-out text has.

Source: Brown et al., "Language models are few-shot learners" (arXiv 2005.14165), appendix C, for runs of 13.
"""

from collections.abc import Iterable

import numpy as np

from model.train.data.corpus import Record
from model.train.data.curation.features import Text

RUN = 13
LIMIT = 0.3  # share of runs above which a text is left out: templates and turns of phrase alone come to a tenth


class HeldOut:
    """The runs of held-out text, as sorted numbers."""

    def __init__(self, records: Iterable[Record]) -> None:
        """Read every held-out record once; 8 bytes are kept for a run."""
        runs = [Text.of(record).runs(RUN) for record in records]
        self._runs = np.unique(np.concatenate(runs)) if runs else np.empty(0, np.uint64)

    def __len__(self) -> int:
        return len(self._runs)

    def overlap(self, text: Text) -> float:
        """Share of the text's runs that are held out, from 0 to 1; 0 for a text of fewer than 13 units."""
        runs = text.runs(RUN)
        if not len(runs) or not len(self._runs):
            return 0.0
        places = np.searchsorted(self._runs, runs)
        return float(np.mean(self._runs[np.minimum(places, len(self._runs) - 1)] == runs))
