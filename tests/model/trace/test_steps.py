import doctest

import numpy as np
import pytest
import xarray as xr

from model.trace import steps


def series(values: object) -> xr.DataArray:
    array = np.array(values)
    dims = ("step", "moe_layer", "expert")[: array.ndim]
    return xr.DataArray(array, dims=dims, coords={"step": np.arange(len(array)) + 1})


def test_example() -> None:
    assert doctest.testmod(steps) == (0, 3)


@pytest.mark.parametrize("window", [1, 7, 100])
def test_running_mean_is_that_of_the_last_steps(window: int) -> None:
    values = np.random.default_rng(0).random(60)
    means = steps.running_mean(series(values), window)
    expected = [values[max(0, end - window) : end].mean() for end in range(1, 61)]
    assert means.values == pytest.approx(np.array(expected))
    assert means["step"].values.tolist() == list(range(1, 61))


@pytest.mark.parametrize("window", [1, 7, 25, 100])
def test_sums_are_those_of_whole_spans_and_of_what_is_left(window: int) -> None:
    counts = np.random.default_rng(0).integers(0, 9, (60, 2, 3))
    added = steps.sums(series(counts), window)
    assert added.values.tolist() == [counts[first : first + window].sum(0).tolist() for first in range(0, 60, window)]
    assert added["step"].values.tolist() == [min(first + window, 60) for first in range(0, 60, window)]
