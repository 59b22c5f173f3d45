"""Maps as PNG: cells come back as they went in, in both themes."""

import numpy as np

from tests.reports import Reader, cells
from viz.report.colors import grey_scales
from viz.report.images import NUM_SHADES, UNKNOWN, map_image, shades
from viz.theme import DARK, LIGHT


def test_shades_run_from_the_first_to_the_last_color() -> None:
    assert shades(np.array([0, 0.5, 1, 2, -1, np.nan, np.inf])).tolist() == [0, 32, 63, 63, 0, UNKNOWN, 63]


def test_a_map_holds_its_cells_for_each_theme() -> None:
    share = np.random.default_rng(0).random((7, 13))
    share[2, 3] = np.nan
    page = Reader(map_image(shades(share), grey_scales(), 1, 2, 30, 40))
    light, dark = page.all("image")
    assert [image.attributes["class"] for image in (light, dark)] == ["map light", "map dark"]
    for image in (light, dark):
        found = cells(image)
        assert found[2, 3] == UNKNOWN
        known = np.isfinite(share)
        assert np.abs(found[known] / (NUM_SHADES - 1) - share[known]).max() < 0.51 / (NUM_SHADES - 1)


def test_an_empty_map_is_left_out() -> None:
    assert map_image(np.zeros((0, 4), np.uint8), (LIGHT.load, DARK.load), 0, 0, 1, 1) == ""
