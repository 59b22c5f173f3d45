"""HTML and SVG as text: what is escaped, and how numbers are written."""

import pytest

from tests.reports import Reader
from viz.report.markup import element, number, table, text, void


def test_values_of_attributes_cannot_leave_them() -> None:
    (made,) = Reader(element("a", text("<b>"), title='"><x y=1', href="#t", data_n=1 / 3, stroke_width=2)).elements
    assert made.attributes == {"title": '"><x y=1', "href": "#t", "data-n": "0.33333", "stroke-width": "2"}
    assert made.text == "<b>"


def test_names_of_attributes_are_checked() -> None:
    with pytest.raises(AssertionError):
        element("a", **{"x onload": "1"})


def test_marks_that_reorder_text_become_signs() -> None:
    assert text("a\u202eb\u2066\u200b") == "a\\u202eb\\u2066\\u200b"
    assert text("abcdef", 3) == "abc…"
    assert text("\ud800") == "\\xed\\xa0\\x80"


def test_numbers_keep_five_digits() -> None:
    assert [number(value) for value in (0.123456, 1e-7, 12.0, 123456.0)] == ["0.12346", "1e-07", "12", "1.2346e+05"]


def test_a_table_names_its_columns_and_rows() -> None:
    page = Reader(table(["n", "a&b"], [["1", "x"], ["2", "<i>y</i>"]], of_text={"a&b"}, ids=["r1", "r2"]))
    assert [cell.text for cell in page.all("th")] == ["n", "a&b"]
    assert [row.attributes.get("id") for row in page.all("tr")] == [None, "r1", "r2"]
    assert [cell.attributes.get("class") for cell in page.all("td")] == [None, "text"] * 2
    assert void("meta", name="x") == '<meta name="x">'
