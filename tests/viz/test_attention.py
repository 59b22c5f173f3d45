import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from model.trace.attention import mean_by_distance, rollout
from tests.traces import random_trace
from viz.attention import attention_map, head_thumbnails, pooled, rollout_map, score_by_distance, score_map, score_parts
from viz.theme import DARK, LIGHT


def causal(length, seed=0):
    raw = np.tril(np.random.default_rng(seed).exponential(1, (length, length)))
    return xr.DataArray((raw / raw.sum(-1, keepdims=True)).astype(np.float32), dims=("query", "key"))


def test_map_shows_exact_weights_and_hides_the_future():
    weights = causal(3)
    picture, points = attention_map(weights, LIGHT, ["a", "<b>", "c"]).data
    assert np.isnan(picture.z[0, 1:]).all()
    assert picture.z[2, 1] == weights.values[2, 1]
    assert points.customdata[-1].tolist() == [2, 2, weights.values[2, 2]]
    assert points.text[1] == "&lt;b&gt; → a"
    assert "customdata[2]:.3~g} (measured)" in points.hovertemplate


def test_queries_run_downwards_and_labels_stand_along_both_sides():
    figure = attention_map(causal(3), LIGHT, ["a", "<b>", "c"])
    assert figure.layout.yaxis.range == (2.5, -0.5)
    assert list(figure.layout.xaxis.ticktext) == list(figure.layout.yaxis.ticktext) == ["a", "&lt;b&gt;", "c"]


def test_many_tokens_get_a_position_axis_and_a_point_per_query():
    picture, points = attention_map(causal(100), DARK, ["x"] * 100).data
    assert picture.z.dtype == np.float32
    assert len(points.x) == 100
    assert points.customdata[7].tolist() == [7, -1]
    assert attention_map(causal(100), DARK, ["x"] * 100).layout.xaxis.ticktext is None


def test_labels_are_left_out_where_they_do_not_fit_and_cut_where_they_are_long():
    assert attention_map(causal(40), LIGHT, ["x"] * 40, height=420).layout.xaxis.ticktext is None
    assert attention_map(causal(1), LIGHT, ["-" * 40]).layout.xaxis.ticktext[0] == "-" * 11 + "…"


def test_long_texts_are_drawn_in_blocks_and_say_so():
    picture = attention_map(causal(1000), LIGHT).data[0]
    assert picture.z.shape == (500, 500)
    assert (picture.dx, picture.x0) == (2, 0.5)
    assert picture.hovertemplate.startswith("largest of 2 × 2 tokens")


def test_one_token():
    assert attention_map(causal(1), LIGHT, ["a"]).data[0].z.tolist() == [[1.0]]


@given(st.integers(1, 30), st.integers(1, 12))
def test_blocks_keep_the_largest_value(length, cells):
    values = causal(length).values
    small, block = pooled(values, cells)
    assert small.shape[0] <= cells
    assert block * small.shape[0] >= length
    assert np.nanmax(small) == values.max()


def test_blocks_keep_the_sign_and_skip_blanks():
    small, _ = pooled(np.array([[np.nan, 1], [-3, 2]]), 1)
    assert small.tolist() == [[-3]]
    assert np.isnan(pooled(np.full((2, 2), np.nan), 1)[0]).all()


def test_thumbnails_stand_in_the_order_asked_for():
    attention = random_trace(num_heads=4).data["attention"].sel(attention_layer=1)
    figure = head_thumbnails(attention, LIGHT, order=[2, 0, 3, 1], selected=3)
    picture, frames, selected, names, points = figure.data
    assert points.customdata.ravel().tolist() == [2, 0, 3, 1]
    assert names.text.tolist() == ["head 2", "head 0", "head 3", "head 1"]
    assert int(np.isnan(frames.x).sum()) == 4
    assert selected.x[0] == frames.x[12]
    assert picture.z.dtype == np.uint8
    assert picture.z.max() == 255
    first = attention.sel(head=2).values
    assert picture.z[5, 2] == round(255 * float(np.sqrt(first[5, 2] / first.max())))


def test_thumbnails_of_one_head_and_one_token():
    picture = head_thumbnails(xr.DataArray(np.ones((1, 1, 1)), dims=("head", "query", "key")), DARK).data[0]
    assert picture.z[0, 0] == 255


def test_rollout_is_drawn_as_derived():
    reached = rollout(random_trace().data["attention"]).isel(attention_layer=-1)
    figure = rollout_map(reached, LIGHT)
    assert "derived" in figure.data[1].hovertemplate
    assert figure.data[0].z[3, 1] == np.float32(reached.values[3, 1])


def test_score_parts_share_one_signed_scale():
    content, position = causal(4) * 3, causal(4, seed=1) * -9
    figures = score_parts(content, position, LIGHT)
    assert [figure.data[0].zmax for figure in figures] == [9, 9]
    assert [figure.data[0].zmin for figure in figures] == [-9, -9]
    assert figures[0].data[0].colorscale[0][1] == LIGHT.change[0]


def test_scores_that_are_all_hidden_still_have_a_scale():
    nothing = xr.DataArray(np.full((2, 2), np.nan), dims=("query", "key"))
    assert score_map(nothing, LIGHT).data[0].zmax == 1


def test_score_by_distance_draws_a_line_per_part():
    content = causal(4)
    figure = score_by_distance({"content": mean_by_distance(content)}, LIGHT)
    assert figure.data[0].name == "content"
    assert figure.data[0].y[3] == pytest.approx(float(content[3, 0]))
