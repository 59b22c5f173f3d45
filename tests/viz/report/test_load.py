"""The figures of load: heights, the range of chance, and dots outside it."""

from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr

from tests.layouts import layout
from tests.reports import Reader, cells
from viz.axis import expert_positions
from viz.report import load


@dataclass(frozen=True)
class Chance:
    num_tokens: int = 30
    confidence: float = 0.95
    low: float = 0.5
    high: float = 1.5
    group_low: float = 0.7
    group_high: float = 1.3


BAND = Chance()
RATIO = xr.DataArray(
    np.array([[0, 1, 1.2, 1.8, 1, 1, 1, 1], [4, 0.25, 0.5, 1, 1, 1, 0.25, 0]]), dims=("moe_layer", "expert"),
    coords={"moe_layer": [3, 4]},
)  # fmt: skip


def test_bars_are_as_high_as_their_ratios() -> None:
    page = Reader(load.load_bars(RATIO[0], layout(8, 4), 3, BAND, chosen=(2,)))
    bars = {int(bar.data("expert")): bar for bar in page.with_data("ratio")}
    heights = np.array([float(bars[expert].attributes["height"]) for expert in range(8)])
    assert np.allclose(heights / heights[1], RATIO[0], atol=1e-3)
    (band,) = page.all("rect", class_="band")
    assert np.isclose(float(band.attributes["height"]) / heights[1], 1.0, atol=1e-3)  # from 0.5 to 1.5
    assert np.isclose(float(band.attributes["y"]) + 1.5 * heights[1], 208, atol=0.1)
    assert "took no token" in page.all("path", class_="lost")[0].whole_text
    assert "more than chance explains" in bars[3].whole_text
    assert len(page.all("circle")) == 1


def test_a_map_has_a_dot_outside_the_range_only() -> None:
    page = Reader(load.load_map(RATIO, layout(8, 4), BAND, focus=4))
    dots = {(int(dot.data("layer")), int(dot.data("outside"))) for dot in page.with_data("outside")}
    assert dots == {(3, 0), (3, 3), (4, 0), (4, 1), (4, 6), (4, 7)}
    light, _ = page.all("image")
    found = cells(light)[:, expert_positions(layout(8, 4)).astype(int)]
    assert found[0].tolist()[:4] == [63, 0, 16, 32]  # layer 4 is the upper row: 4 x, 1/4 x, 1/2 x, 1 x
    assert Reader(load.load_map(RATIO, layout(8, 4))).with_data("outside") == []


@pytest.mark.filterwarnings("error")
def test_unknown_ratios_have_no_bar() -> None:
    page = Reader(load.load_bars(RATIO[0] * np.nan, layout(8, 4), 3))
    assert page.with_data("ratio") == []
