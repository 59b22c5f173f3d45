import dataclasses

import numpy as np
import pytest
import xarray as xr

from tests.viz.parts import Part
from viz import splits
from viz.splits import CHANGE, FOLLOWS, KINDS, NEAR_TIE, SAME, UNALIGNED, UNKNOWN
from viz.theme import THEMES, Theme

NAMES = (SAME, NEAR_TIE, FOLLOWS, CHANGE, splits.UNDECIDED, UNKNOWN)
THEME = pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)


def parts(*spelled: bytes) -> tuple[list[Part], bytes]:
    tokens, text = [Part(0, "<｜BOS｜>", 0, 0, special=True)], b""
    for number, part in enumerate(spelled, 1):
        tokens.append(Part(number, "x", len(text), len(text) + len(part)))
        text += part
    return tokens, text


def verdicts() -> xr.DataArray:
    """Return verdicts of three tokens, the middle one without a partner, in two layers."""
    values = np.array([[0, 0], [1, 3]], np.uint8)
    return xr.DataArray(values, dims=("pair", "moe_layer"), coords={"moe_layer": [3, 4], "token": ("pair", [0, 2])})


def test_strip_marks_each_token_and_escapes_the_text() -> None:
    tokens, text = parts(b"<b>", b" wolf")
    body = splits.strip(tokens, text, [SAME, CHANGE, UNALIGNED], ["a", "b", 'c"'], chosen=2)
    assert '<span class="chip special same" title="a"><bdi>BOS</bdi></span>' in body
    assert '<span class="chip change" title="b"><bdi>&lt;b&gt;</bdi></span>' in body
    assert '<span class="chip chosen not-aligned" title="c&quot;"><i>·</i><bdi>wolf</bdi></span>' in body
    assert "<b>" not in body


def test_character_of_several_tokens_is_whole_and_shows_the_gravest() -> None:
    tokens, text = parts("é".encode()[:1], "é".encode()[1:])
    body = splits.strip(tokens, text, [SAME, NEAR_TIE, CHANGE], ["", "first", "second"])
    assert '<span class="chip change" title="first; second"><bdi>é</bdi></span>' in body


def test_generated_tokens_are_marked() -> None:
    tokens, text = parts(b"a", b"b")
    tokens[2] = dataclasses.replace(tokens[2], generated=True)
    body = splits.strip(tokens, text, [SAME] * 3, [""] * 3)
    assert '<span class="chip same" title=""><bdi>a</bdi></span><span class="chip generated same" title="">' in body


def test_legend_names_what_occurs() -> None:
    legend = splits.legend([SAME, NEAR_TIE, SAME])
    assert splits.WORDS[NEAR_TIE] in legend
    assert splits.WORDS[CHANGE] not in legend


@THEME
def test_every_kind_has_a_look_of_its_own(theme: Theme) -> None:
    css = splits.css(theme)
    for kind in (NEAR_TIE, FOLLOWS, CHANGE, splits.UNDECIDED, UNALIGNED, UNKNOWN):
        assert f".splits .{kind.replace(' ', '-')}" in css
    shown = [splits.colors(theme)[name] for name in NAMES]
    assert len(set(shown)) == len(shown)
    assert set(splits.WORDS) == set(KINDS)


@THEME
def test_map_of_splits(theme: Theme) -> None:
    figure = splits.split_map(verdicts(), NAMES, ["BOS", "wolf"], theme, (2, 4))
    picture, points = figure.data
    assert picture.z.tolist() == [[0, 1], [0, 3]]
    assert (picture.zmin, picture.zmax) == (-0.5, 5.5)
    scale = dict(
        zip(
            [round(6 * edge) for edge, _ in picture.colorscale][::2],
            [c for _, c in picture.colorscale][::2],
            strict=True,
        )
    )
    assert scale[3] == theme.change[-1]
    assert points.customdata.tolist() == [[0, 3], [2, 3], [0, 4], [2, 4]]
    assert list(points.text) == ["BOS: same", "wolf: near tie", "BOS: same", "wolf: change"]
    assert [(shape.x0, shape.y0) for shape in figure.layout.shapes] == [(0.5, 0.5)]
    assert list(figure.layout.xaxis.ticktext) == [0, 2]


def test_choice_that_is_not_there_is_not_framed() -> None:
    assert splits.split_map(verdicts(), NAMES, ["a", "b"], THEMES["light"], (1, 4)).layout.shapes == ()


@pytest.mark.parametrize("chance", [(0.076, 0.001), None])
def test_agreement_by_layer(chance: tuple[float, float] | None) -> None:
    values = {"equal": ("moe_layer", [1.0, 0.5]), "jaccard": ("moe_layer", [1.0, 0.75])}
    figure = splits.agreement(xr.Dataset(values, coords={"moe_layer": [3, 4]}), chance, 8, THEMES["light"])
    equal, index = figure.data
    assert (list(equal.x), list(equal.y), list(index.y)) == ([3, 4], [1.0, 0.5], [1.0, 0.75])
    assert [shape.y0 for shape in figure.layout.shapes] == ([0.076] if chance else [])
    assert figure.layout.annotations[0].text.startswith("n = 8 choices")


@THEME
def test_changes_of_log_probability(theme: Theme) -> None:
    values = xr.DataArray([np.nan, 0.5, -0.25], dims="pair", coords={"token": ("pair", [0, 1, 3])})
    figure = splits.logprob_bars(values, ["a", "b", "c"], theme, 3)
    (bars,) = figure.data
    np.testing.assert_array_equal(bars.y, values.values)
    assert bars.marker.color[1] == theme.change[-1]
    assert bars.marker.line.width.tolist() == [0, 0, 2]
    assert figure.layout.yaxis.range == (-0.55, 0.55)
    assert figure.layout.annotations[0].text == "n = 2 tokens, mean +0.12 nats"


def test_equal_runs_are_drawn_flat() -> None:
    values = xr.DataArray([0.0, 0.0], dims="pair", coords={"token": ("pair", [0, 1])})
    figure = splits.logprob_bars(values, ["a", "b"], THEMES["light"], None)
    assert figure.layout.yaxis.range == (-1.1, 1.1)
