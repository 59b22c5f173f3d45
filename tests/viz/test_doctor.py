"""The overview of an audit: a cell per layer and check, with letter and colour."""

import numpy as np
import pytest
import xarray as xr

from viz.doctor import colors, overview
from viz.theme import DARK, LIGHT, Theme

MARKS = xr.DataArray(
    np.array([[0, -1], [3, 1]], np.int8),
    dims=("layer", "check"),
    coords={"layer": [0, 4], "check": ["values", "bias"]},
)


def test_cells_letters_and_words_say_the_same() -> None:
    figure = overview(MARKS, LIGHT)
    cells, points = figure.data
    assert cells.z.tolist() == [[1, 0], [4, 2]]
    assert cells.text.tolist() == [["·", ""], ["e", "n"]]
    assert points.text.tolist() == [
        "L0, values: nothing found", "L0, bias: not checked", "L4, values: an error", "L4, bias: a note",
    ]  # fmt: skip
    assert np.ravel(points.customdata).tolist() == [0, 0, 4, 4]
    assert figure.layout.xaxis.ticktext.tolist() == ["values", "bias"]


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_every_mark_has_a_colour_of_its_own(theme: Theme) -> None:
    assert len(set(colors(theme))) == 5
