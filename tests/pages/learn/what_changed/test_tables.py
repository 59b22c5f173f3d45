"""The tables of claims and of generations."""

from pages.learn.what_changed import claims, tables
from pages.learn.what_changed.claims import ALL


def test_table_has_every_claim_with_references_in_words() -> None:
    table = tables.by_claim(claims.matching(ALL, ALL))
    assert len(table) == len(claims.claims())
    assert (table != "").all(axis=None)
    assert table["references"].str.contains("arXiv|https://").all()
    assert not table["references"].str.contains(r"\]\(").any()


def test_table_of_generations_has_links_on_the_page_only() -> None:
    plain, linked = tables.generations(), tables.generations(linked=True)
    assert plain.columns.tolist() == ["property", "V2", "V3", "V3.2", "V4-Flash", "V4-Pro", "sources"]
    assert linked["sources"].str.contains(r"\]\(https://").all()
    assert not plain["sources"].str.contains(r"\]\(").any()
    assert plain.drop(columns="sources").equals(linked.drop(columns="sources"))
