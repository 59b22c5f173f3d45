import numpy as np
import pytest
import xarray as xr

from tests.layouts import layout
from viz import expert
from viz.theme import LIGHT, expert_color


def test_weights_are_all_counted_and_unknown_ones_left_out():
    weights = xr.DataArray(np.array([0.1, 0.2, 0.9, np.nan], np.float32), dims=("token",))
    figure = expert.weight_distribution(weights, expert_color(1, layout(4, 2), LIGHT), LIGHT)
    assert sum(figure.data[0].y) == 3
    assert "n = 3 tokens, median 0.2" in figure.layout.annotations[0].text
    empty = expert.weight_distribution(weights[3:], "#000000", LIGHT)
    assert empty.layout.annotations[0].text == "no token was routed here"


def test_kinds_that_chance_explains_are_grey():
    bounds, beyond = np.array([[0.3, 0.7], [0.1, 0.6]]), np.array([True, False])
    figure = expert.shares_by_kind(
        ["number", "other"], np.array([5, 1]), np.array([10, 4]), bounds, beyond, 0.125, "#0072B2", LIGHT
    )
    points = figure.data[0]
    assert points.x.tolist() == [0.5, 0.25]
    assert list(points.y) == ["number (n = 10)", "other (n = 4)"]
    assert points.marker.color.tolist() == ["#0072B2", LIGHT.muted]
    assert points.error_x.array.tolist() == pytest.approx([0.2, 0.35])
    assert points.error_x.arrayminus.tolist() == pytest.approx([0.2, 0.15])
    assert figure.layout.shapes[0].x0 == 0.125
