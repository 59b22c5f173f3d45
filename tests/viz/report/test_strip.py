"""The text as chips with the colours of experts."""

from tests.reports import Reader
from tests.viz.parts import Part
from viz.report.strip import text_strip


def test_chips_have_their_experts_color_and_lead_to_their_rows() -> None:
    text = "a<b>é\n".encode()
    tokens = [
        Part(1, "a", 0, 1),
        Part(2, "<b>", 1, 4, True),
        Part(3, "x", 4, 5),
        Part(4, "x", 5, 6),
        Part(5, "\n", 6, 7),
    ]
    page = Reader(
        text_strip(tokens, text, {0: 7, 2: 3}, dict(enumerate(f"hover {i}" for i in range(5))), range(4), chosen=3)
    )
    chips = page.all("span", class_="chip")
    assert [chip.whole_text for chip in chips] == ["a", "<b>", "é"]
    assert [chip.attributes.get("style") for chip in chips] == ["--top: var(--e7)", None, "--top: var(--e3)"]
    assert [link.attributes["href"] for link in page.all("a")] == ["#token-0", "#token-1", "#token-2"]
    assert ["chosen" in chip.attributes["class"] for chip in chips] == [False, False, True]
    assert chips[1].attributes["title"] == "hover 1"


def test_part_of_a_run_keeps_its_numbers() -> None:
    tokens = [Part(1, "a", 0, 1), Part(2, "b", 1, 2), Part(3, "c", 2, 3)]
    page = Reader(text_strip(tokens, b"abc", {101: 4}, {101: "x", 102: "y"}, range(101, 103), 102, 100))
    assert [link.attributes["href"] for link in page.all("a")] == ["#token-101", "#token-102"]
    assert [chip.attributes.get("style") for chip in page.all("span", class_="chip")] == ["--top: var(--e4)", None]
    assert [chip.attributes["title"] for chip in page.all("span", class_="chosen")] == ["y"]
