"""The table of answers."""

import re

from pages.frame.room import histogram

COLOURS = ("#111111", "#222222")


def cells(table: str) -> list[list[str]]:
    """Return the texts of each row, and the width of its bar as the last."""
    rows = re.findall(r"<tr.*?</tr>", table)
    return [[*re.findall(r">([^<>]+)<", row), *re.findall(r"width: (\d+%)", row)] for row in rows]


def test_bars_are_shares_of_the_largest_and_right_answers_are_marked() -> None:
    table = histogram.rows({"b": 4, "a": 1, "x": 2}, ["a", "b", "c"], ["c"], COLOURS)
    assert cells(table) == [
        ["a", "1", "25%"], ["b", "4", "100%"], ["c", "0", "\N{CHECK MARK} right", "0%"], ["x", "2", "50%"]
    ]  # fmt: skip
    assert table.count(COLOURS[1]) == 1


def test_of_many_options_only_given_and_right_ones_are_listed() -> None:
    table = histogram.rows({"7": 1}, list(map(str, range(256))), ["200"], COLOURS)
    assert [row[0] for row in cells(table)] == ["7", "200"]


def test_answers_cannot_bring_markup() -> None:
    table = histogram.rows({'<img src="x">': 1}, [], [], COLOURS)
    assert "<img" not in table
    assert "&lt;img" in table
