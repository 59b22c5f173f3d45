import numpy as np
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from model.trace.attention import rollout
from model.trace.cells import Window, cells, whole
from tests.traces import random_trace
from viz.attention import MAX_POINT_ROWS, attention_map, rollout_map, score_limit, score_map
from viz.theme import DARK, LIGHT


def causal(length, seed=0):
    raw = np.tril(np.random.default_rng(seed).exponential(1, (length, length)))
    weights = np.where(np.tri(length), raw / raw.sum(-1, keepdims=True), np.nan)
    return xr.DataArray(weights.astype(np.float32), dims=("query", "key"))


def test_map_shows_exact_weights_and_hides_the_future():
    weights = causal(3)
    picture, points = attention_map(weights, LIGHT, ["a", "<b>", "c"]).data
    assert np.isnan(picture.z[0, 1:]).all()
    assert picture.z[2, 1] == weights.values[2, 1]
    assert points.customdata[-1].tolist() == [2, 2, weights.values[2, 2], 2, 2]
    assert points.text[1] == "&lt;b&gt; → a"
    assert "customdata[2]:.3~g} (measured)" in points.hovertemplate


def test_row_and_column_of_the_token_are_framed():
    frame = attention_map(causal(5), LIGHT, token=3).data[2]
    assert frame.x[:5] == (-0.5, 3.5, 3.5, -0.5, -0.5)
    assert frame.y[:5] == (2.5, 2.5, 3.5, 3.5, 2.5)
    assert max(frame.y[6:]) == 4.5


def test_queries_run_downwards_and_labels_stand_along_both_sides():
    figure = attention_map(causal(3), LIGHT, ["a", "<b>", "c"])
    assert figure.layout.yaxis.range == (2.5, -0.5)
    assert list(figure.layout.xaxis.ticktext) == list(figure.layout.yaxis.ticktext) == ["a", "&lt;b&gt;", "c"]


def test_many_tokens_get_a_position_axis_and_every_cell_a_point():
    figure = attention_map(causal(84), DARK, ["x"] * 84)
    assert figure.layout.xaxis.ticktext is None
    assert len(figure.data[1].x) == 84 * 85 // 2


def test_long_texts_have_a_point_for_the_strongest_pair_of_each_block():
    weights = causal(2 * MAX_POINT_ROWS)
    points = attention_map(weights, LIGHT, ["x"] * len(weights)).data[1]
    assert len(points.x) == MAX_POINT_ROWS * (MAX_POINT_ROWS + 1) // 2
    queries, keys, values = points.customdata.T[:3]
    assert (queries >= keys).all()
    assert np.array_equal(values, weights.values[queries.astype(int), keys.astype(int)])
    block = (queries // 2 == 70) & (keys // 2 == 20)
    assert values[block] == weights.values[140:142, 40:42].max()


def test_labels_are_left_out_where_they_do_not_fit_and_cut_where_they_are_long():
    assert attention_map(causal(38), LIGHT, ["x"] * 38).layout.xaxis.ticktext is None
    assert attention_map(causal(1), LIGHT, ["-" * 40]).layout.xaxis.ticktext[0] == "-" * 11 + "…"


def test_cells_stand_where_their_tokens_do():
    seen = cells(causal(1001), Window(500, 1001, 0, 1001), 512)["largest"]
    figure = attention_map(seen, LIGHT, of_cell="largest")
    picture, points = figure.data
    assert (picture.dx, picture.x0, picture.dy, picture.y0) == (2, 0.5, 1, 500)
    assert figure.layout.yaxis.range == (1000.5, 499.5)
    assert figure.layout.xaxis.range == (-0.5, 1000.5)
    assert figure.layout.yaxis.scaleanchor is None
    query, key, value, last_query, last_key = points.customdata[-1]
    assert (last_query - query, last_key - key) in [(0, 1), (0, 0)]
    assert value == seen.sel(query=query, key=key)
    assert "largest attention %{customdata[2]" in points.hovertemplate
    assert figure.layout.xaxis.title.text == "key (each cell is the largest of 1 x 2)"


def test_a_part_of_a_map_names_its_tokens():
    labels = [str(place) for place in range(200)]
    figure = attention_map(cells(causal(200), Window(100, 120, 90, 110))["largest"], LIGHT, labels, token=105)
    assert list(figure.layout.xaxis.ticktext) == labels[90:110]
    assert list(figure.layout.yaxis.tickvals) == list(range(100, 120))
    assert figure.data[1].text[0] == "100 → 90"
    frame = figure.data[2]
    assert (min(frame.x[:5]), max(frame.y[:5])) == (89.5, 105.5)
    assert (min(frame.x[6:]), max(frame.y[6:])) == (104.5, 119.5)


def test_a_token_outside_of_the_part_is_not_framed():
    seen = cells(causal(200), Window(100, 120, 90, 110))["largest"]
    assert attention_map(seen, LIGHT, token=150).data[2].x == ()
    assert len(attention_map(seen, LIGHT, token=95).data[2].x) == 5


@given(st.integers(0, 30), st.integers(1, 30), st.integers(0, 30), st.integers(1, 30))
def test_any_part_can_be_drawn(query, length, key, width):
    window = Window(query, query + length, key, key + width)
    picture, points, _ = attention_map(cells(causal(60), window, 20)["mean"], LIGHT, token=30).data
    assert len(points.x) == np.isfinite(picture.z).sum()


def test_one_token():
    assert attention_map(causal(1), LIGHT, ["a"]).data[0].z.tolist() == [[1.0]]


def test_rollout_is_drawn_as_derived():
    reached = rollout(random_trace().data["attention"]).isel(attention_layer=-1)
    figure = rollout_map(cells(reached, whole(10))["largest"], LIGHT)
    assert "derived" in figure.data[1].hovertemplate
    assert figure.data[0].z[3, 1] == np.float32(reached.values[3, 1])


def test_score_parts_share_one_signed_scale():
    parts = causal(4) * 3, causal(4, seed=1) * -9
    assert score_limit(*parts) == 9
    pictures = [score_map(part, LIGHT, score_limit(*parts)).data[0] for part in parts]
    assert [(picture.zmin, picture.zmax) for picture in pictures] == [(-9, 9), (-9, 9)]
    assert pictures[0].colorscale[0][1] == LIGHT.change[0]


def test_scores_that_are_all_hidden_still_have_a_scale():
    nothing = xr.DataArray(np.full((2, 2), np.nan), dims=("query", "key"))
    assert score_map(nothing, LIGHT).data[0].zmax == 1
