"""The figures of a corpus, by their data."""

from types import SimpleNamespace

import numpy as np

from viz.atlas import judged_map, measures_by_layer, pair_map, share_map, share_profile, share_rows
from viz.theme import DARK, LIGHT

LAYOUT = SimpleNamespace(num_experts=4, num_groups=2, num_kept_groups=1, top_k=2)
NAN = np.nan


def texts(*shape: int) -> np.ndarray:
    return np.array([f"cell {index}" for index in range(int(np.prod(shape)))], object).reshape(shape)


def test_cell_is_coloured_grey_or_blank() -> None:
    values = np.array([[2.0, -0.5, NAN, 5.0], [0.0, 1.0, -4.0, 1.5]])
    stands = np.array([[True, False, False, True], [False, True, True, False]])
    figure = judged_map(values, stands, texts(2, 4), ["L3", "L5"], np.array([3, 5]), LAYOUT, LIGHT, "× rest", words="n")
    grey, coloured, points = figure.data
    experts = [0, 1, 3, 4]  # a gap between the groups
    assert np.array_equal(coloured.z[:, experts], [[2, NAN, NAN, 3], [NAN, 1, -3, NAN]], equal_nan=True)
    assert np.array_equal(grey.z[:, experts], [[NAN, 0, NAN, NAN], [0, NAN, NAN, 0]], equal_nan=True)
    assert (grey.showscale, coloured.showscale) == (False, True)
    assert coloured.colorscale[-1][1] == LIGHT.load[-1]
    assert points.customdata[[0, 5]].tolist() == [[3, 0], [5, 1]]
    assert points.text[5] == "cell 5"
    assert figure.layout.yaxis.ticktext.tolist() == ["L3", "L5"]
    assert figure.layout.annotations[0].text == "n"


def test_change_between_corpora_has_colours_of_its_own() -> None:
    ones = np.ones((1, 4))
    figure = judged_map(
        ones, ones > 0, texts(1, 4), ["L1"], np.array([1]), LAYOUT, DARK, "× first", changes=True
    )  # fmt: skip
    assert figure.data[1].colorscale[0][1] == DARK.change[0]
    assert not figure.layout.annotations


def test_pairs_leave_out_what_is_unknown() -> None:
    values = np.full((4, 4), NAN)
    values[0, 1], values[2, 3] = 1.0, -2.0
    figure = pair_map(values, values > 0, texts(4, 4), LAYOUT, LIGHT, ("expert", "with"), "n = 9")
    grey, coloured, points = figure.data
    assert (coloured.z[0, 1], grey.z[3, 4]) == (1, 0)
    assert np.count_nonzero(np.isfinite(coloured.z)) == 1
    assert points.customdata.tolist() == [[0, 1], [2, 3]]
    assert points.text.tolist() == ["cell 1", "cell 11"]
    assert (figure.layout.yaxis.title.text, figure.layout.xaxis.title.text) == ("expert", "with")


def test_first_measure_of_a_layer_is_filled() -> None:
    series = {"within language": np.array([0.1, 0.2]), "all": np.array([0.3, 0.4])}
    words = {name: [f"{name} L1", f"{name} L2"] for name in series}
    first, second = measures_by_layer(["L1", "L2"], series, words, "bit", LIGHT).data
    assert (first.name, first.marker.symbol, second.marker.symbol) == ("within language", "circle", "circle-open")
    assert (list(first.x), list(first.y), first.text[1]) == ([0.1, 0.2], [0, 1], "within language L2")


def test_profile_has_its_interval_and_the_share_of_all_tokens() -> None:
    bounds = np.array([[0.1, 0.4], [NAN, NAN]])
    figure = share_profile(["0", "1"], np.array([0.2, 0.5]), bounds, 0.125, ["a", "b"], "#000000", LIGHT, "position")
    line = figure.data[0]
    assert np.allclose(line.error_y.array, [0.2, NAN], equal_nan=True)
    assert np.allclose(line.error_y.arrayminus, [0.1, NAN], equal_nan=True)
    assert figure.layout.shapes[0].y0 == 0.125


def test_shares_are_drawn_up_to_the_largest() -> None:
    shares = np.array([[0.1, NAN], [0.02, 0.04]])
    figure = share_map(shares, texts(2, 2), ["L1", "L2"], ["code", "maths"], LIGHT, "label", "n = 40")
    heatmap = figure.data[0]
    assert np.array_equal(heatmap.z, shares.astype(np.float32), equal_nan=True)
    assert (heatmap.zmin, heatmap.zmax) == (0, 0.1)
    assert figure.layout.xaxis.ticktext.tolist() == ["code", "maths"]


def test_rows_that_do_not_stand_are_grey() -> None:
    bounds = np.array([[0.1, 0.4], [NAN, NAN]])
    stands = np.array([True, False])
    figure = share_rows(
        ["code", "maths"], np.array([0.2, 0.1]), bounds, stands, ["a", "b"], 0.125, "#123456", LIGHT, "x"
    )
    marks = figure.data[0]
    assert marks.marker.color.tolist() == ["#123456", LIGHT.muted]
    assert np.allclose(marks.error_x.array, [0.2, NAN], equal_nan=True)
    assert (list(marks.y), figure.layout.shapes[0].x0) == (["code", "maths"], 0.125)
