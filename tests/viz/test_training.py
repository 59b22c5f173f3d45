"""Figures of training by their data."""

import numpy as np
import xarray as xr

from viz import training
from viz.theme import DARK, LIGHT

STEPS = [10, 20, 30]


def curve(*values: float) -> xr.DataArray:
    return xr.DataArray(list(values), dims="step", coords={"step": STEPS})


def load() -> xr.DataArray:
    values = np.array([[[1, 1], [1, 1]], [[1.5, 0.5], [1, 1]], [[2, 0], [1, 1]]], float)
    return xr.DataArray(values, dims=("step", "moe_layer", "expert"), coords={"step": STEPS, "moe_layer": [3, 4]})


def test_curves_with_stages_and_alarms() -> None:
    figure = training.curves(
        {"one": curve(3, 2, 1), "two": curve(3, 3, 3)},
        "loss",
        LIGHT,
        [(1, "first"), (20, "second")],
        [(30, "collapse")],
        [(20, "went back 5 steps")],
    )
    assert [trace.name for trace in figure.data] == ["one", "two", "alarm", "rollback"]
    assert figure.data[0].y.tolist() == [3, 2, 1]
    assert figure.data[0].line.width > figure.data[1].line.width
    assert [shape.x0 for shape in figure.layout.shapes] == [1, 20]
    assert figure.data[2].text == ("collapse",)
    assert list(figure.data[2].x) == [30]
    assert (list(figure.data[3].x), figure.data[3].text) == ([20], ("went back 5 steps",))


def test_names_of_stages_do_not_lie_on_each_other() -> None:
    stages = [(1, "a"), (12, "b"), (25, "c"), (29, "d")]
    plain, figure = (training.curves({"one": curve(3, 2, 1)}, "loss", DARK, these) for these in ((), stages))
    notes = figure.layout.annotations
    assert [note.xanchor for note in notes] == ["left", "left", "right", "right"]  # late ones go left
    heights = [-note.ay for note in notes]
    assert len(set(heights)) == len(notes)
    assert heights[0] > heights[1]  # a name to the right of its line is above the later lines
    assert heights[3] > heights[2]  # and a name to the left above the earlier ones
    assert min(heights[:2]) > max(heights[2:])
    room = figure.layout.height - plain.layout.height
    assert room == figure.layout.margin.t - plain.layout.margin.t >= max(heights)


def test_stages_that_ended_before_the_lines_begin_are_not_drawn() -> None:
    figure = training.curves({"one": curve(3, 2, 1)}, "loss", LIGHT, [(1, "a"), (5, "b"), (15, "c")])
    assert [note.text for note in figure.layout.annotations] == ["b", "c"]


def test_lines_begin_with_their_first_value() -> None:
    figure = training.curves({"one": curve(np.nan, 2, np.nan)}, "reward", LIGHT, [(1, "a"), (15, "b")])
    assert figure.data[0].x.tolist() == [20, 30]
    assert [note.text for note in figure.layout.annotations] == ["b"]


def test_load_of_a_layer_is_drawn_as_logarithm_and_told_as_ratio() -> None:
    (heat,) = training.load_over_steps(load().sel(moe_layer=3, drop=True), LIGHT).data
    assert heat.customdata.tolist() == [[1, 1.5, 2], [1, 0.5, 0]]
    assert heat.z[:, 2].tolist() == [1.0, -2.0]  # twice a fair share; 0 is at the low end
    assert list(heat.x) == STEPS


def test_load_plays_from_the_first_step_to_the_last() -> None:
    figure = training.load_that_plays(load(), LIGHT)
    assert [frame.name for frame in figure.frames] == ["10", "20", "30"]
    assert np.array_equal(figure.data[0].z, figure.frames[-1].data[0].z)
    assert [step.args[0][0] for step in figure.layout.sliders[0].steps] == ["10", "20", "30"]
    assert [button.label for button in figure.layout.updatemenus[0].buttons] == ["Play", "Pause"]
    assert not figure.layout.updatemenus[0].showactive  # a pressed button is white in both themes


def test_bias_is_shown_without_the_mean_of_the_layer() -> None:
    bias = xr.DataArray([[7.0, 7.0], [8.0, 6.5]], dims=("step", "expert"), coords={"step": [1, 2]})
    (heat,) = training.bias_over_steps(bias, LIGHT).data
    assert heat.z.tolist() == [[0.0, 0.75], [0.0, -0.75]]
    assert (heat.zmin, heat.zmax) == (-0.75, 0.75)
