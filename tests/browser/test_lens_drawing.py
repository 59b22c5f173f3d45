"""The lens draws right-to-left text, the line under the text, and maps with more cells than pixels."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import Visit
from viz import lens as source

pytestmark = pytest.mark.browser
FOLDER = Path(source.__file__).parent
STRIP, DRAW = ("".join((FOLDER / name).read_text(encoding="utf-8") for name in names) for names in (
    ("text.js", "strip.js"), ("draw.js",),
))  # fmt: skip
# Left and upper edges of the chips of a text whose tokens are given.
EDGES = f"""(pieces) => {{
  {STRIP}
  const style = '.chip {{ display: inline-block; height: 20px; vertical-align: top }}';
  document.body.innerHTML = `<style>${{style}}</style><div></div>`;
  const strip = new Strip(document.querySelector('div')), no = () => false;
  const bytes = pieces.map((piece) => new TextEncoder().encode(piece));
  strip.show({{ bytes: (i) => bytes[i], special: no, generated: no, id: (i) => i, name: () => '' }}, pieces.length);
  return strip.chips.map(({{ element }}) => element.getBoundingClientRect()).map(({{ left, top }}) => [left, top]);
}}"""


@pytest.fixture
def blank(chromium: Browser) -> Page:
    return chromium.new_page()


def order(page: Page, *pieces: str) -> list[list[int]]:
    """Return the tokens of each line from left to right."""
    edges = page.evaluate(EDGES, list(pieces))
    lines = sorted({top for _, top in edges})
    return [sorted((i for i in range(len(edges)) if edges[i][1] == top), key=lambda i: edges[i][0]) for top in lines]


def test_each_line_of_the_strip_runs_as_its_first_letter_does(blank: Page) -> None:
    assert order(blank, "The", " wolf", " ran") == [[0, 1, 2]]
    assert order(blank, "الذئب", " في", " الغابة") == [[2, 1, 0]]
    assert order(blank, "שלום", " the", " wolf", " עולם") == [[3, 1, 2, 0]]
    assert order(blank, "The", " ذئب", " في", " ran") == [[0, 2, 1, 3]]
    assert order(blank, "1", "שלום", " עולם", "\n", "A", " wolf") == [[3, 2, 1, 0], [4, 5]]


def test_a_map_of_more_cells_than_pixels_shows_the_largest_value_in_each(blank: Page) -> None:
    script = f"""(values) => {{ {DRAW}
      const cells = reduced(Int32Array.from(values), 3, 5, 2, 2);
      const context = new OffscreenCanvas(2, 2).getContext('2d'), shades = [0, 10, 200].map((v) => pack([v, v, v]));
      paintCells(context, Int32Array.from(values), 3, 5, (v) => shades[v], 0, 0, 2, 2);
      return [[...cells.values], [...context.getImageData(0, 0, 2, 2).data].filter((_, i) => i % 4 === 0)];
    }}"""
    values = [0, 0, 1] + [0, 2, 0] + [0, 0, 0] + [1, 0, 0] + [0, 0, 0]
    assert blank.evaluate(script, values) == [[2, 1, 1, 0], [200, 10, 10, 0]]


def test_strip_is_as_tall_as_its_text_and_the_numbers_stand_below_it(serve: Callable[[str], str], visit: Visit) -> None:
    page = visit(serve("tests/browser/lens_app.py"), width=1440, height=900)
    page.wait_for_function("window.__lens?.lens.strip.length === 16")
    rows, strip, info, tools = json.loads(
        page.evaluate("""JSON.stringify([
      new Set([...window.__lens.lens.strip.chips].map((chip) => chip.element.offsetTop)).size,
      ...['.strip', '.info', '.tools'].map((name) => window.__lens.lens.find(name).getBoundingClientRect())])""")
    )
    assert rows == 2
    assert strip["height"] < 3 * 15 * 1.95
    assert strip["bottom"] <= info["top"] < strip["bottom"] + 12
    assert info["bottom"] <= tools["top"]
