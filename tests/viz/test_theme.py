import colorsys
from itertools import combinations, pairwise

import numpy as np
import plotly.graph_objects as go
import pytest

from tests.colours import difference, farness, seen
from tests.layouts import layout
from viz.axis import click_layer, expert_positions, layer_axis, spread
from viz.theme import (
    DARK,
    GROUP_HUES,
    LIGHT,
    THEMES,
    blend,
    colorscale,
    expert_color,
    expert_colors,
    group_hue,
    palette,
    readable_on,
    style,
)


def hue(color: str) -> float:
    return colorsys.rgb_to_hls(*(int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)))[0]


def luminance(color: str) -> float:
    return sum(int(color[at : at + 2], 16) * share for at, share in ((1, 0.2126), (3, 0.7152), (5, 0.0722)))


def contrast(color: str, other: str) -> float:
    """The contrast of two colours as WCAG 2 defines it: 1 if they are equal, 21 for black on white."""

    def light(part: float) -> float:
        return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4

    values = [[light(int(one[at : at + 2], 16) / 255) for at in (1, 3, 5)] for one in (color, other)]
    low, high = sorted(0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in values)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # the example of WCAG's own tools


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES.keys())
def test_writing_in_figures_reaches_the_contrast_of_text(theme):
    for paper in (theme.background, theme.shade, theme.grid):
        assert min(contrast(ink, paper) for ink in (theme.ink, theme.muted)) >= 4.5


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES.keys())
def test_experts_of_a_group_share_its_hue_and_differ_in_lightness(theme):
    colors = expert_colors(layout(32, 4), theme)
    assert len(set(colors)) == 32
    for expert, color in enumerate(colors):
        assert hue(color) == pytest.approx(hue(group_hue(expert // 8)), abs=0.02)
    assert [luminance(color) for color in colors[:8]] == sorted(luminance(color) for color in colors[:8])


def test_one_group_with_one_expert_has_a_colour():
    assert expert_color(0, layout(1, 1), LIGHT).startswith("#")


def test_hues_repeat_after_eight_groups():
    assert group_hue(9) == group_hue(1)
    assert len({group_hue(group) for group in range(8)}) == 8


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES.keys())
def test_zero_disappears_and_more_stands_out(theme):
    assert theme.sequential[0] == theme.background == theme.surprisal[0]
    away = [abs(luminance(stop) - luminance(theme.background)) for stop in theme.sequential]
    assert away == sorted(away)


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES.keys())
def test_load_and_change_never_share_a_colour(theme):
    assert not set(theme.load) & set(theme.change)
    assert len(theme.load) % 2 == len(theme.change) % 2 == 1


def test_blend_meets_the_stops_and_clips():
    assert blend(("#000000", "#ffffff"), 0.5) == "#808080"
    assert blend(LIGHT.load, 0.5) == LIGHT.load[3]
    assert blend(LIGHT.load, -3) == LIGHT.load[0]
    assert blend(LIGHT.load, 7) == LIGHT.load[-1]


def test_companded_scale_spaces_stops_by_squares():
    assert colorscale(("#000000", "#888888", "#ffffff"), companded=True) == [
        [0.0, "#000000"],
        [0.25, "#888888"],
        [1.0, "#ffffff"],
    ]


def test_palette_is_plain_values():
    drawn = palette(layout(8, 2), DARK)
    assert len(drawn["experts"]) == 8
    assert drawn["groups"] == [group_hue(0), group_hue(1)]
    assert drawn["sequential"][0] == drawn["background"]


def test_every_figure_has_a_height_and_readable_type():
    figure = style(go.Figure([go.Bar(y=[1]), click_layer(np.zeros(1), np.zeros(1))]), LIGHT, 300, bargap=0.5)
    assert figure.layout.height == 300
    assert figure.layout.font.size >= 12
    assert figure.layout.paper_bgcolor == "rgba(0,0,0,0)"
    assert figure.layout.bargap == 0.5
    assert figure.data[0].unselected.marker.opacity == 1
    assert figure.data[1].unselected.marker.opacity == 0


def test_groups_stand_apart():
    assert expert_positions(layout(8, 2)).tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert expert_positions(layout(4, 1)).tolist() == [0, 1, 2, 3]
    wide = spread(np.arange(4)[None], expert_positions(layout(4, 2)))
    assert wide[0, [0, 1, 3, 4]].tolist() == [0, 1, 2, 3]
    assert np.isnan(wide[0, 2])


def test_many_layers_are_not_all_named():
    axis = layer_axis(np.arange(3, 61))
    assert len(axis["tickvals"]) <= 20
    assert axis["ticktext"][0] == "L3"


@pytest.mark.parametrize(("color", "ink"), [("#000000", "#ffffff"), ("#ffffff", "#000000"), ("#08519c", "#ffffff")])
def test_writing_on_a_colour_stands_out(color, ink):
    assert readable_on(color) == ink
    assert all(readable_on(stop) in ("#000000", "#ffffff") for stop in LIGHT.load + DARK.load)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [  # from table 1 of the paper
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 0, 0), (50, -1, 2), 2.3669),
        ((50, -0.001, 2.49), (50, 0.0011, -2.49), 4.7461),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((50, 2.5, 0), (50, 3.2592, 0.3350), 1.0000),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ],
)
def test_difference_of_colours_is_that_of_its_authors(first, second, expected):
    assert difference(np.array(first), np.array(second)) == pytest.approx(expected, abs=6e-5)


def test_simulation_makes_red_and_green_alike_and_keeps_grey():
    # Two hues that this palette had: nearly one colour without the cones for green.
    assert difference(seen("#D55E00", "all cones"), seen("#8A8D00", "all cones")) > 30
    assert farness("#D55E00", "#8A8D00") < 2
    for vision in ("protanopia", "deuteranopia", "tritanopia"):
        assert seen("#808080", vision) == pytest.approx(seen("#808080", "all cones"), abs=0.01)


def test_groups_differ_for_colour_blind_readers():
    assert min(farness(*pair) for pair in combinations(GROUP_HUES, 2)) > 10
    assert min(farness(*pair) for pair in pairwise(GROUP_HUES)) > 15


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES.keys())
def test_experts_of_different_groups_differ_for_colour_blind_readers(theme):
    """At the same place in their group. Experts of neighbouring groups stand side by side; others stand far apart."""
    groups = np.array(expert_colors(layout(64, 8), theme)).reshape(8, 8)[:, ::7].tolist()

    def least(first, second):
        return min(farness(*pair) for pair in zip(first, second, strict=True))

    assert min(least(*pair) for pair in pairwise(groups)) > 8
    assert min(least(*pair) for pair in combinations(groups, 2)) > 2


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES.keys())
@pytest.mark.parametrize("scale", ["load", "change"])
def test_both_sides_of_a_diverging_scale_differ_for_colour_blind_readers(theme, scale):
    stops = getattr(theme, scale)
    assert min(farness(*pair) for pair in pairwise(stops)) > 9
    sides = zip(stops[: len(stops) // 2], reversed(stops), strict=False)
    assert min(farness(*pair) for pair in sides) > 30
