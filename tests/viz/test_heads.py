import numpy as np
import xarray as xr

from model.trace.attention import head_figures, over_queries
from tests.traces import random_trace
from viz.heads import cache_bars, head_panels, largest_weights, layer_maps, parts_by_distance
from viz.theme import DARK, LIGHT


def test_parts_by_distance_draw_every_head_their_mean_and_the_chosen_one():
    values = np.arange(12.0).reshape(2, 2, 3)
    labels = {"part": ["content", "position"], "head": [0, 5], "distance": [0, 4, 8]}
    figure = parts_by_distance(xr.DataArray(values, dims=("part", "head", "distance"), coords=labels), LIGHT, 5)
    assert [trace.name for trace in figure.data] == ["each head", "mean of heads", "head 5"] * 2
    assert figure.data[0].y[:3].tolist() == [0, 1, 2]
    assert np.isnan(figure.data[0].y[3])
    assert figure.data[4].y.tolist() == [7.5, 8.5, 9.5]
    assert figure.data[5].x.tolist() == [0, 4, 8]
    assert [trace.showlegend for trace in figure.data] == [True] * 3 + [False] * 3


def test_cache_is_drawn_to_scale_and_said_in_words():
    bars = cache_bars({"MLA": 10, "MHA": 40}, {"MLA": "10 bytes", "MHA": "40 bytes"}, "MLA", LIGHT, "<title>").data[0]
    assert bars.x.tolist() == [0.25, 1]
    assert bars.text.tolist() == ["10 bytes", "40 bytes"]
    assert bars.marker.color[1] == LIGHT.muted


def test_bars_name_the_largest_weights_and_sum_up_the_rest():
    row = xr.DataArray(np.array([0.1, 0.5, 0.15, 0.25]), dims=("key",))
    bars = largest_weights(row, ["a", "<b>", "c", "d"], LIGHT, count=2).data[0]
    assert bars.text.tolist() == ["1  &lt;b&gt;", "3  d", "2 others"]
    assert bars.x.tolist() == [0.5, 0.25, 0.25]
    assert bars.customdata.ravel().tolist() == [1, 3, -1]


def test_panels_draw_means_and_ranges_in_the_order_asked_for():
    figures = head_figures(random_trace(num_heads=3).data["attention"].sel(attention_layer=1))
    summary = over_queries(figures, np.arange(1, 10))
    figure = head_panels(summary, LIGHT, [2, 0, 1], selected=0)
    lines, dots = figure.data[:2]
    assert dots.customdata[:, 0].tolist() == [2, 0, 1]
    assert dots.x[0] == summary["entropy"].sel(statistic="mean", head=2)
    assert lines.x[1] == summary["entropy"].sel(statistic="high", head=2)
    assert (figure.layout.shapes[0].y0, figure.layout.shapes[0].y1) == (0.5, 1.5)


def test_layer_maps_draw_every_layer_and_frame_the_chosen_head():
    means = over_queries(head_figures(random_trace().data["attention"]), np.arange(1, 10)).sel(statistic="mean")
    picture, points, frame = layer_maps(means, DARK, (1, 0)).data[:3]
    assert np.allclose(picture.z, means["entropy"].transpose("attention_layer", "head"))
    assert points.customdata[3, :2].tolist() == [1, 1]
    assert (min(frame.x), min(frame.y)) == (-0.5, 0.5)
