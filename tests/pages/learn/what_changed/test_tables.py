"""The table of claims."""

from pages.learn.what_changed import claims, tables
from pages.learn.what_changed.claims import ALL


def test_table_has_every_claim_with_references_in_words() -> None:
    table = tables.by_claim(claims.matching(ALL, ALL))
    assert len(table) == len(claims.claims())
    assert (table != "").all(axis=None)
    assert table["references"].str.contains("arXiv|https://").all()
    assert not table["references"].str.contains(r"\]\(").any()
