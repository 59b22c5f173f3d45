"""The map of one head's attention."""

import numpy as np
import xarray as xr

from model.trace.cells import cells as reduced
from model.trace.cells import whole
from tests.reports import Reader, cells
from viz.report.attention import attention_map
from viz.report.images import UNKNOWN


def weights(number: int) -> xr.DataArray:
    raw = np.tril(np.random.default_rng(1).exponential(1, (number, number))).astype(np.float32)
    return xr.DataArray(raw / raw.sum(-1, keepdims=True), dims=("query", "key"))


def test_shades_follow_the_square_root_of_the_weights() -> None:
    values = weights(6)
    page = Reader(attention_map(reduced(values, whole(6))["largest"], 2, "1", [f"t{i}" for i in range(6)], token=3))
    found = cells(page.all("image")[0])
    below = np.tril_indices(6)
    assert np.abs(found[below] / 63 - np.sqrt(values.values[below] / values.values.max())).max() < 0.51 / 63
    assert (found[np.triu_indices(6, 1)] == UNKNOWN).all()
    assert sorted(label.text for label in page.all("text", class_="label")) == sorted([f"t{i}" for i in range(6)] * 2)
    (frame,) = page.all("rect", class_="dotted")
    assert float(frame.attributes["y"]) == 8 + 3 * 100
    assert float(page.figure("attention").data("largest")) == 1


def test_a_large_map_covers_every_token() -> None:
    page = Reader(attention_map(reduced(weights(101), whole(101), 50)["largest"], 0, "all", ["x"] * 101))
    image = page.all("image")[0]
    assert cells(image).shape == (34, 34)
    assert np.isclose(float(image.attributes["width"]), 600 * 102 / 101, atol=0.1)  # the last cell ends after the text
    assert page.all("text", class_="label") == []
