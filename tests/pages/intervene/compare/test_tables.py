"""The tables of two runs whose routing differs in one choice."""

import pytest

from model.trace.comparison import compare
from pages.intervene.compare import tables
from tests.pages.intervene.compare.conftest import nudged, shown


def test_tables_hold_plain_numbers() -> None:
    found = compare(shown(), nudged(shown()))
    table = tables.by_layer(found)
    assert table["layer"].tolist() == [1, 2]
    assert table["same"].tolist() == [14, 13]
    assert "undecided" not in table
    assert tables.by_token(compare(shown(), shown())).empty


def test_log_probabilities_stand_side_by_side() -> None:
    table = tables.log_probabilities(compare(shown(), nudged(shown())))
    row = table.set_index("token").loc[6]
    assert row["B (nat)"] == pytest.approx(row["A (nat)"] - 0.5)
    assert table["B - A (nat)"].dropna().tolist() == pytest.approx([0] * 5 + [-0.5] + [0] * 7)


def test_experts_of_one_token() -> None:
    comparison = compare(shown(), nudged(shown()))
    table = tables.of_token(comparison, 6)
    assert table is not None
    assert table["layer"].tolist() == [1, 2]
    assert (table["only A"] != "").tolist() == [False, True]
    assert table["which is"].tolist()[0] == "same"
    assert tables.of_token(comparison, 99) is None
