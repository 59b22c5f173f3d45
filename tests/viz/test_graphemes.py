"""Against the `regex` library, which has the tables of the standard."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viz import graphemes
from viz.graphemes import joins

regex = pytest.importorskip("regex")
SCRIPTS = "aé ñ\u0301\u0303\u200d\nअकषि्ं\u200cבְּسلامُกำ한국ᄒ\u1161\u11ab春が\u3099👩🏽🚀❤\ufe0f🇫🇷🇩🏴\U000e0067"


def clusters(text: str) -> list[str]:
    found: list[str] = []
    for character in text:
        if found and joins(found[-1][-4:], character):
            found[-1] += character
        else:
            found.append(character)
    return found


def test_worked_example() -> None:
    assert doctest.testmod(graphemes) == (0, 1)


@pytest.mark.parametrize(
    "text",
    [
        "👩‍👩‍👧‍👦👩🏽‍🚀❤️‍🔥",
        "🇫🇷🇩🇪🇫",
        "é́ñ",
        "गाँव के पास क्षत्रिय",
        "স্ত্রী",
        "한국어 각",
        "שָׁלוֹם",
        "في صباحٍ",
        "น้ำ",
        "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
        "\r\n\u0301",
    ],
    ids=ascii,
)
def test_clusters_of_known_texts(text: str) -> None:
    expected = [
        part for cluster in regex.findall(r"\X", text) for part in (list(cluster) if "\r" in cluster else [cluster])
    ]
    assert clusters(text) == expected


@given(st.text(st.sampled_from(SCRIPTS), max_size=12))
def test_clusters_of_any_mixture(text: str) -> None:
    assert clusters(text) == regex.findall(r"\X", text)
