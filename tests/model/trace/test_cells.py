"""Cells of a map against its full matrix."""

import doctest

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from model.trace import cells as module
from model.trace.cells import Window, cell_sides, cells, visible_pairs, whole


def windows(num_tokens: int) -> st.SearchStrategy[Window]:
    bounds = st.tuples(st.integers(0, num_tokens - 1), st.integers(1, num_tokens)).filter(
        lambda ends: ends[0] < ends[1]
    )
    return st.builds(lambda queries, keys: Window(*queries, *keys), bounds, bounds)


WINDOWS = st.integers(1, 24).flatmap(lambda length: st.tuples(st.just(length), windows(length)))


def signed(length: int) -> xr.DataArray:
    values = np.random.default_rng(length).normal(size=(length, length)).astype(np.float32)
    return xr.DataArray(values, dims=("query", "key"))


@given(case=WINDOWS, max_cells=st.integers(1, 26))
def test_every_cell_says_what_is_in_it(case: tuple[int, Window], max_cells: int) -> None:
    window, values = case[1], signed(case[0])
    seen = cells(values, window, max_cells)
    assert max(seen["pairs"].shape) <= max_cells
    assert (seen["query"].values[0], seen["query_end"].values[-1]) == (window.query, window.query_end)
    assert (seen["key"].values[0], seen["key_end"].values[-1]) == (window.key, window.key_end)
    for row in range(seen.sizes["query"]):
        for column in range(seen.sizes["key"]):
            cell = seen.isel(query=row, key=column)
            queries, keys = np.arange(cell["query"], cell["query_end"]), np.arange(cell["key"], cell["key_end"])
            inside = values.values[np.ix_(queries, keys)][keys <= queries[:, None]]
            assert cell["pairs"] == inside.size
            if inside.size:
                assert cell["largest"] == inside[np.abs(inside).argmax()]
                assert cell["mean"] == pytest.approx(inside.mean(), abs=1e-5)
            else:
                assert np.isnan([cell["largest"], cell["mean"]]).all()


@given(case=WINDOWS, max_cells=st.integers(1, 26))
def test_means_times_pairs_add_up_to_the_window(case: tuple[int, Window], max_cells: int) -> None:
    window, values = case[1], signed(case[0])
    seen = cells(values, window, max_cells)
    part = np.tril(values.values)[window.query : window.query_end, window.key : window.key_end]
    assert float((seen["mean"] * seen["pairs"]).sum()) == pytest.approx(part.sum(), abs=1e-4)


def test_a_window_that_fits_is_shown_pair_by_pair() -> None:
    values = signed(9)
    seen = cells(values, Window(4, 8, 1, 3), max_cells=4)
    assert cell_sides(Window(4, 8, 1, 3), 4) == (1, 1)
    assert np.array_equal(seen["largest"], values.values[4:8, 1:3])
    assert np.array_equal(seen["mean"], values.values[4:8, 1:3])


def test_heads_keep_their_labels() -> None:
    values = xr.concat([signed(5), signed(5)], "head").assign_coords(head=[7, 3])
    assert cells(values, whole(5), 2)["largest"].sel(head=3).shape == (2, 2)


def test_all_pairs_of_a_long_prompt_are_counted() -> None:
    assert visible_pairs(whole(100_000), (196, 196)).sum() == 100_000 * 100_001 // 2


def test_worked_example() -> None:
    assert doctest.testmod(module) == (0, 2)
