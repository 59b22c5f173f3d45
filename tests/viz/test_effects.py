"""Figures of effects: colours of the text, bands of the control, escaped text."""

import numpy as np
import plotly.graph_objects as go
import pytest

from viz import effects
from viz.theme import DARK, LIGHT, THEMES, Theme, blend


def chips(page: str) -> list[str]:
    return [part.split('">')[0] for part in page.split('<span class="chip')[1:]]


@pytest.mark.parametrize("theme", THEMES.values())
def test_strip_diverges_round_zero_and_never_in_the_colours_of_load(theme: Theme) -> None:
    values = np.array([np.nan, -1.0, 0.0, 1.0])
    page = effects.text_with_change(
        ["a", "b", "c", "d"], values, ["w"] * 4, [False, False, True, True], [True] + [False] * 3, theme, 2
    )
    found = chips(page)
    assert theme.grid in found[0]
    assert theme.change[0] in found[1]
    assert theme.change[2] in found[2]
    assert theme.change[-1] in found[3]
    assert not any(color in page for color in theme.load)
    assert ["generated" in chip for chip in found] == [False, False, True, True]
    assert ["special" in chip for chip in found] == [True, False, False, False]
    assert ["chosen" in chip for chip in found] == [False, False, True, False]
    assert "-1<span" in page


def test_values_that_are_never_negative_take_the_upper_half() -> None:
    page = effects.text_with_change(["a", "b"], np.array([0.0, 2.0]), ["", ""], [False, False], [False, False], LIGHT)
    assert ">0<span" in page
    assert LIGHT.change[0] not in page


def test_few_far_values_do_not_pale_the_rest_and_noise_stays_pale() -> None:
    values = np.array([0.1] * 99 + [50.0])
    assert effects.limit_of(values) == pytest.approx(0.1)
    assert effects.limit_of(np.array([1e-9, np.nan])) == 0.05
    assert effects.limit_of(np.array([np.nan])) == 0.05
    page = effects.text_with_change(["a"], np.array([1e-6]), [""], [False], [False], DARK)
    assert blend(DARK.change, 0.5 + 1e-5) in page


def test_text_is_escaped_everywhere() -> None:
    hostile = '<script>alert("1")</script>'
    page = effects.text_with_change([hostile], np.zeros(1), [hostile], [False], [False], LIGHT)
    page += effects.plain_text(hostile, hostile, hostile, LIGHT)
    assert "<script" not in page
    assert 'title="&lt;script&gt;alert(&quot;1&quot;)' in page
    figure = effects.by_token(np.zeros(1), None, [hostile], "nats", LIGHT)
    assert "<script" not in str(figure.data[-1].hovertext)


def test_by_token_draws_the_control_as_a_band_beside_the_bars() -> None:
    low, high = np.array([0.0, 0.1]), np.array([0.2, 0.4])
    figure = effects.by_token(np.array([-0.5, 0.3]), (low, high), ["a", "b"], "nats", LIGHT, chosen=1)
    lower, upper, bars = figure.data
    assert lower.y.tolist() == low.tolist()
    assert upper.y.tolist() == high.tolist()
    assert upper.fill == "tonexty"
    assert bars.y.tolist() == [-0.5, 0.3]
    assert bars.marker.color.tolist() == [LIGHT.change[0], LIGHT.change[-1]]
    assert bars.customdata.tolist() == [[0], [1]]
    assert figure.layout.shapes[0].x0 == 1
    assert len(effects.by_token(np.zeros(2), None, ["a", "b"], "nats", LIGHT).data) == 1


def test_by_layer_outlines_what_was_touched() -> None:
    control = (np.array([0.5, 0.6]), np.array([0.5, 0.9]))
    figure = effects.by_layer([3, 4], np.array([0.2, 1.0]), control, "same", LIGHT, [4])
    bars, points = figure.data
    assert bars.base.tolist() == [0.5, 0.6]
    assert bars.y.tolist() == pytest.approx([0.004, 0.3])  # an empty range stays visible
    assert list(points.x) == ["L3", "L4"]
    assert points.y.tolist() == [0.2, 1.0]
    assert list(points.marker.line.width) == [0, 2]


def test_against_control_shows_every_draw_and_their_range() -> None:
    figure: go.Figure = effects.against_control(0.5, np.array([0.1, 0.3, 0.2]), "nats", LIGHT)
    draws, this = figure.data
    assert draws.x.tolist() == [0.1, 0.3, 0.2]
    assert list(this.x) == [0.5]
    band = figure.layout.shapes[0]
    assert (band.x0, band.x1) == (0.1, 0.3)
