"""The text with drafts, and the figure of shared experts, by their data."""

import re

import numpy as np

from viz import drafts
from viz.theme import LIGHT


def test_every_token_has_its_draft_below() -> None:
    page = drafts.text_with_drafts(
        ["a", " b", "c"], [None, " b", "x"], [False, True, False], [False, True, False], [False, True, True],
        [True, False, False], 2,
    )  # fmt: skip
    chips = re.findall(r'<span class="([^"]*)" title="([^"]*)"><bdi>([^<]*)</bdi><small><bdi>([^<]*)</bdi>', page)
    assert chips == [
        ("chip special", "token 0: no draft", "a", ""),
        ("chip generated matching", "token 1: draft &#x27; b&#x27;, accepted", " b", "✓"),
        ("chip generated chosen differing unverified", "token 2: draft &#x27;x&#x27;, differs, not verified", "c", "x"),
    ]


def test_text_cannot_become_markup() -> None:
    hostile = "</span><script>alert(1)</script>\"'"
    page = drafts.text_with_drafts([hostile], [hostile], [False], [True], [True], [False])
    assert "<script" not in page
    assert 'title="token 0: draft' in page


def test_numbers_count_from_the_first_shown() -> None:
    page = drafts.text_with_drafts(["a"], [None], [False], [False], [False], [False], chosen=40, first=40)
    assert 'title="token 40: no draft"' in page
    assert "chosen" in page


def test_bars_are_the_shares_and_marks_are_chance() -> None:
    figure = drafts.shared_by_layer([3, 4], np.array([0.5, 0.25]), np.array([0.2, 0.1]), LIGHT)
    bars, marks = figure.data
    assert list(bars.x) == ["L3", "L4"]
    assert list(bars.y) == [0.5, 0.25]
    assert list(marks.y) == [0.2, 0.1]
