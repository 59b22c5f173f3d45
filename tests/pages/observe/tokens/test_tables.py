import numpy as np

from pages.observe.tokens import tables
from tests.traces import spelling


def test_counts_of_the_parts() -> None:
    table = tables.by_part(spelling(b"Once", b" \xc3", b"\xa9", b"ab", generated_from=4))
    assert table["tokens"].tolist() == [5, 4, 1]
    assert table["special"].tolist() == [1, 1, 0]
    assert table["bytes"].tolist() == [9, 7, 2]
    assert table["characters"].tolist() == [8, 6, 2]
    assert table["bytes per token"].tolist() == [9 / 4, 7 / 3, 2]
    assert table["characters per token"].tolist() == [2, 2, 2]
    assert np.isnan(tables.by_part(spelling(b"a"))["bytes per token"][2])


def test_row_of_the_table_has_the_bytes() -> None:
    row = tables.by_token(spelling(b" a\n")).iloc[1]
    assert (row["text"], row["bytes"], row["as bytes"], row["kind"]) == ("·a⏎", 3, "20 61 0A", "text")
