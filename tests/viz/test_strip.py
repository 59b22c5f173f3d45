"""All strips of text: the marks of tokens, and text never becomes markup."""

import re

import numpy as np
import pytest

from tests.viz.parts import Part
from viz import boundaries, drafts, effects, splits, strip
from viz.theme import LIGHT

TOKENS = [Part(0, "<bos>", 0, 0, special=True), Part(1, "a", 0, 1), Part(2, "b", 1, 2, generated=True)]
NONE = [False] * 3
PAGES = {
    "boundaries": boundaries.text_with_boundaries(TOKENS, b"ab", chosen=1),
    "splits": splits.strip(TOKENS, b"ab", [splits.SAME] * 3, [""] * 3, 1),
    "effects": effects.text_with_change(
        ["bos", "a", "b"], np.zeros(3), [""] * 3, [False, False, True], [True, False, False], LIGHT, 1
    ),
    "drafts": drafts.text_with_drafts(
        ["bos", "a", "b"], [None] * 3, NONE, NONE, [False, False, True], [True, False, False], 1
    ),
}
LOOKS = {
    "boundaries": boundaries.CSS, "splits": splits.css(LIGHT), "effects": effects.CSS, "drafts": drafts.CSS
}  # fmt: skip


@pytest.mark.parametrize("kind", PAGES)
def test_tokens_are_marked_alike_in_every_strip(kind: str) -> None:
    page = PAGES[kind]
    assert page.startswith(f'<div class="strip {kind}" dir="ltr" role="group" tabindex="0" aria-label="The text')
    marks = [
        set(found.split()) & {"generated", "special", "chosen"} for found in re.findall('class="(chip[^"]*)"', page)
    ]
    assert marks[:3] == [{"special"}, {"chosen"}, {"generated"}]
    assert page.count("<bdi>") >= 3  # CSS underlines them and sets them in small caps


@pytest.mark.parametrize("kind", LOOKS)
def test_common_rules_come_first_and_stand_nowhere_else(kind: str) -> None:
    css = LOOKS[kind]
    assert css.startswith(strip.CSS)
    own = css.removeprefix(strip.CSS)
    assert f".{kind}" in own
    for common in ("text-decoration: underline", "small-caps", "box-shadow", "@media", "--st-code-font"):
        assert common in strip.CSS
        assert common not in own


def test_inside_of_a_chip_is_its_makers_and_the_rest_is_escaped() -> None:
    page = strip.chip("<bdi>a</bdi>", '"><script>', {"generated": 1, "special": 0}, "color:red")
    assert page == '<span class="chip generated" title="&quot;&gt;&lt;script&gt;" style="color:red"><bdi>a</bdi></span>'
    assert strip.framed("kind", '"x"', [page, page]).count("&quot;x&quot;") == 1


def test_writing_escapes_text_and_tells_signs_from_it() -> None:
    assert strip.writing(b" <b>\n") == "<i>·</i><bdi>&lt;b&gt;</bdi><i>⏎</i>"
    assert strip.writing(b"") == ""
