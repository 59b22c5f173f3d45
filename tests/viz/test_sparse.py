"""Figures of sparse attention by their data."""

import numpy as np
import xarray as xr

from viz import sparse
from viz.theme import DARK, LIGHT


def case() -> tuple[xr.DataArray, xr.DataArray]:
    attention = xr.DataArray(np.tril(np.full((4, 4), 0.25)), dims=("query", "key"))
    kept = xr.DataArray(np.tri(4, dtype=bool) & (np.arange(4) != 1), dims=("query", "key"))
    return attention, kept


def test_map_tells_kept_keys_from_those_left_out_and_shows_no_future() -> None:
    attention, kept = case()
    figure = sparse.selection_map(attention, kept, LIGHT, query=2, title="n = 4 tokens")
    blue, orange = (np.isfinite(figure.data[i].z) for i in (0, 1))
    np.testing.assert_array_equal(blue, kept.values)
    np.testing.assert_array_equal(orange, np.tri(4, dtype=bool) & ~kept.values)
    points = figure.data[2]
    assert points.customdata[:, 0].tolist() == [0, 1, 1, 2, 2, 2, 3, 3, 3, 3]
    assert points.text.tolist()[:3] == ["kept", "kept", "left out"]
    assert points.hoverinfo != "skip"  # otherwise no click reaches the page
    assert figure.layout.shapes[0].x1 == 2.5


def test_panels_of_a_query_split_its_keys() -> None:
    attention, kept = case()
    row = {"query": 3}
    figure = sparse.query_panels(attention.isel(row), kept.isel(row), attention.isel(row), ["a", "<b>", "c", "d"], DARK)
    assert [list(bar.x) for bar in figure.data] == [[0, 2, 3], [1], [0, 2, 3], [1]]
    assert figure.data[1].text[0] == "1  <b>"


def test_recall_over_the_text_and_over_layers() -> None:
    line = xr.DataArray([np.nan, 0.5, 0.75], dims="query")
    figure = sparse.recall_by_query(line, line + 0.1, LIGHT, "two")
    assert figure.data[1].y[2] == 0.75
    means = xr.DataArray([[0.5, 1.0], [0.2, 0.3]], dims=("layer", "head"), coords={"layer": [0, 3], "head": [0, 1]})
    figure = sparse.recall_map(means, LIGHT, (3, 1))
    assert figure.data[1].customdata.tolist() == [[0, 0], [0, 1], [3, 0], [3, 1]]
    assert (figure.layout.shapes[0].y0, figure.layout.shapes[0].x0) == (0.5, 0.5)
