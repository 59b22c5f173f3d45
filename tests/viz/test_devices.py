"""The figure of devices, by its data."""

import numpy as np
import xarray as xr

from viz.axis import positions_apart
from viz.devices import device_load
from viz.load import clipped_log
from viz.theme import DARK, LIGHT


def load(rows: list[list[float]]) -> xr.DataArray:
    return xr.DataArray(np.array(rows), dims=("moe_layer", "device"), coords={"moe_layer": [3, 5][: len(rows)]})


BEFORE, AFTER = load([[0.5, 1.5], [0.0, 2.0]]), load([[0.9, 1.1], [1.0, 1.0]])


def test_before_stands_left_and_after_right() -> None:
    picture, points = device_load(BEFORE, AFTER, LIGHT).data
    ratio = np.array([[0.5, 1.5, 0.9, 1.1], [0, 2, 1, 1]])
    assert np.array_equal(picture.z[:, [0, 1, 3, 4]], clipped_log(ratio))
    assert np.isnan(picture.z[:, 2]).all()
    assert points.x.tolist() == positions_apart(4, 2).tolist() * 2
    assert points.customdata[:5].tolist() == [[3, 0, 0.5], [3, 1, 1.5], [3, 0, 0.9], [3, 1, 1.1], [5, 0, 0]]
    assert points.text.tolist() == ["as numbered", "as numbered", "balanced", "balanced"] * 2
    assert "simulated" in points.hovertemplate


def test_halves_are_named_and_devices_numbered() -> None:
    figure = device_load(BEFORE, AFTER, DARK)
    assert [note.text for note in figure.layout.annotations] == ["as numbered", "balanced"]
    assert figure.layout.xaxis.ticktext.tolist() == ["0", "1", "0", "1"]
    assert figure.layout.yaxis.ticktext.tolist() == ["L3", "L5"]


def test_many_devices_are_not_all_named() -> None:
    many = load([[1.0] * 64])
    assert len(device_load(many, many, LIGHT).layout.xaxis.ticktext) == 16
