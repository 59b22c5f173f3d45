import numpy as np
import xarray as xr

from tests.traces import random_trace
from viz.theme import DARK, LIGHT
from viz.thumbnails import head_thumbnails


def test_thumbnails_stand_in_the_order_asked_for():
    attention = random_trace(num_heads=4).data["attention"].sel(attention_layer=1)
    figure = head_thumbnails(attention, LIGHT, order=[2, 0, 3, 1], selected=3)
    picture, frames, selected, names, points = figure.data
    assert points.customdata.ravel().tolist() == [2, 0, 3, 1]
    assert names.text.tolist() == ["head 2", "head 0", "head 3", "head 1"]
    assert int(np.isnan(frames.x).sum()) == 4
    assert selected.x[0] == frames.x[12]
    assert picture.z.dtype == np.uint8
    assert picture.z.max() == 255
    first = attention.sel(head=2).values
    assert picture.z[5, 2] == round(255 * float(np.sqrt(first[5, 2] / first.max())))


def test_thumbnails_of_one_head_and_one_token():
    picture = head_thumbnails(xr.DataArray(np.ones((1, 1, 1)), dims=("head", "query", "key")), DARK).data[0]
    assert picture.z[0, 0] == 255


def test_thumbnails_say_the_figure_they_are_sorted_by():
    attention = random_trace(num_heads=2).data["attention"].sel(attention_layer=1)
    assert head_thumbnails(attention, LIGHT, [1, 0], values=[0.25, 3.0]).data[2].text[0] == "head 1  0.25"
