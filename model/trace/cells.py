"""Reduce maps of queries and keys to no more cells than a screen shows.

A cell covers a rectangle of (query, key) pairs. It holds the largest value and the mean of its visible pairs, and their
number; a pair is visible if its key is not after its query. Mean times number of pairs, summed over all cells, is the
sum of all values. The coordinates `query` to `query_end` and `key` to `key_end` are the tokens of a cell, the ends
excluded.

    >>> ones = xr.DataArray(np.ones((3, 3)), dims=("query", "key"))
    >>> cells(ones, whole(3), max_cells=2)["pairs"].values.tolist()
    [[3, 0], [2, 1]]
"""

from typing import NamedTuple

import numpy as np
import xarray as xr

MAX_CELLS = 512  # cells per side of a map; a screen has no pixels for more


class Window(NamedTuple):
    """A part of a map: a range of queries and a range of keys, the ends excluded."""

    query: int
    query_end: int
    key: int
    key_end: int

    @property
    def lengths(self) -> tuple[int, int]:
        """The number of queries and the number of keys."""
        return self.query_end - self.query, self.key_end - self.key


def whole(num_tokens: int) -> Window:
    """Return the window of all queries and keys."""
    return Window(0, num_tokens, 0, num_tokens)


def cell_sides(window: Window, max_cells: int = MAX_CELLS) -> tuple[int, int]:
    """Return the smallest cell size, in queries and keys, that keeps the map within `max_cells` per side."""
    down, across = (-(-length // max_cells) for length in window.lengths)
    return down, across


def cells(values: xr.DataArray, window: Window, max_cells: int = MAX_CELLS) -> xr.Dataset:
    """Return the cells that cover a window of a map [..., query, key]: `largest` (by magnitude), `mean` and `pairs`.

    `largest` and `mean` are [..., query, key], `pairs` is [query, key]. Keys after the query do not count. In a small
    window each cell is one pair and holds its value.
    """
    sides, (first, end, key, key_end) = cell_sides(window, max_cells), window
    part = values.isel(query=slice(first, end), key=slice(key, key_end)).transpose(..., "query", "key")
    visible = np.arange(key, key_end) <= np.arange(first, end)[:, None]
    tiles = _tiles(np.where(visible, part.values, np.nan), sides)
    high, low = (reduce.reduce(reduce.reduce(tiles, axis=-1), axis=-2) for reduce in (np.fmax, np.fmin))
    largest, total = np.where(-low > high, low, high), np.nan_to_num(tiles).sum((-3, -1))
    coords = {name: labels for name, labels in part.coords.items() if name not in ("query", "key")}
    return dataset(largest, total, window, sides, part.dims[:-2]).assign_coords(coords)


def dataset(
    largest: np.ndarray, total: np.ndarray, window: Window, sides: tuple[int, int], leading: tuple = ()
) -> xr.Dataset:
    """Return the dataset of cells from their largest values and sums; NaN in cells without visible pairs."""
    pairs = visible_pairs(window, sides)
    shown, dims = np.where(pairs > 0, 1, np.nan).astype(np.float32), (*leading, "query", "key")
    queries, keys = _starts(window.query, window.query_end, sides[0]), _starts(window.key, window.key_end, sides[1])
    return xr.Dataset(
        {
            "largest": (dims, largest * shown),
            "mean": (dims, total / np.maximum(pairs, 1) * shown),
            "pairs": (("query", "key"), pairs),
        },
        coords={
            "query": queries,
            "query_end": ("query", np.minimum(queries + sides[0], window.query_end)),
            "key": keys,
            "key_end": ("key", np.minimum(keys + sides[1], window.key_end)),
        },
    )


def visible_pairs(window: Window, sides: tuple[int, int]) -> np.ndarray:
    """Return the number of visible pairs of each cell, [query, key]."""
    first, key = _starts(window.query, window.query_end, sides[0]), _starts(window.key, window.key_end, sides[1])
    end, key_end = np.minimum(first + sides[0], window.query_end), np.minimum(key + sides[1], window.key_end)

    def from_key_on(keys: np.ndarray) -> np.ndarray:
        """Return, for each row of cells, the number of visible pairs with a key at `keys[i]` or later, [row, i]."""
        return _triangle(end[:, None] - keys) - _triangle(first[:, None] - keys)

    return from_key_on(key) - from_key_on(key_end)


def _triangle(number: np.ndarray) -> np.ndarray:
    """Return 1 + 2 + ... + number; 0 for a negative number."""
    positive = np.maximum(number, 0)
    return positive * (positive + 1) // 2


def _starts(first: int, end: int, side: int) -> np.ndarray:
    return np.arange(first, end, side)


def _tiles(values: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    """Return `values` with the last two axes cut into [rows, side, columns, side], padded with NaN."""
    padding = [(0, -length % side) for length, side in zip(values.shape[-2:], sides, strict=True)]
    padded = np.pad(values, [(0, 0)] * (values.ndim - 2) + padding, constant_values=np.nan)
    rows, columns = (length // side for length, side in zip(padded.shape[-2:], sides, strict=True))
    return padded.reshape(*values.shape[:-2], rows, sides[0], columns, sides[1])
