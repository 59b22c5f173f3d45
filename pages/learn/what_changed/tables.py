"""The table of claims."""

from collections.abc import Sequence

import pandas as pd

from pages.learn.what_changed.claims import Claim, plain_reference

_COLUMNS = ["said by", "subject", "claim", "verdict", "primary sources", "references", "views"]


def by_claim(chosen: Sequence[Claim]) -> pd.DataFrame:
    """Return a table with a row per claim."""
    rows = [
        (
            claim.origin,
            claim.subject,
            claim.claim,
            claim.verdict,
            claim.says,
            "; ".join(plain_reference(*each) for each in claim.references),
            "; ".join(view.label for view in claim.views),
        )
        for claim in chosen
    ]
    return pd.DataFrame(rows, columns=_COLUMNS)
