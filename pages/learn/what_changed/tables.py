"""The table of claims, and the table of DeepSeek's generations."""

from collections.abc import Sequence

import pandas as pd

from pages.learn.what_changed.claims import Claim, plain_reference, reference
from pages.learn.what_changed.generations import models, rows

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


def generations(linked: bool = False) -> pd.DataFrame:
    """Return a table with a row per property and a column per model; with `linked`, sources are links in Markdown."""
    records = [
        (
            row.name,
            *row.cells,
            "; ".join(reference(*each, brief=True) if linked else plain_reference(*each) for each in row.references),
        )
        for row in rows().values()
    ]
    return pd.DataFrame(records, columns=["property", *models(), "sources"])
