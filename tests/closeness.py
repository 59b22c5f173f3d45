"""Measure the difference of two arrays of floats relative to their size, so that a bound holds on every processor.

One rounding in float32 is 6e-8. Kernels for another vector width, layout or number of threads sum in another order,
which changes the logits of the tiny models by up to 2e-6 of the largest one.
"""

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike

# The bound for one function in float32, computed by us in two ways.
ROUNDING = 1e-5


def relative_error(actual: ArrayLike, expected: ArrayLike, size: float | None = None) -> float:
    """Return the largest difference over the largest finite magnitude that was expected.

    Args:
        actual: an array or tensor of floats.
        expected: an array or tensor of equal shape. If NaN and infinities are in other places, the error is infinite.
        size: number to divide by instead; for values that were computed from larger ones, as log-probabilities from
            logits.
    """
    one, other = _array(actual), _array(expected)
    assert one.shape == other.shape
    finite = np.isfinite(other)
    if not np.array_equal(one[~finite], other[~finite], equal_nan=True) or not np.isfinite(one[finite]).all():
        return np.inf
    largest = np.abs(other[finite]).max(initial=np.finfo(float).tiny) if size is None else size
    return float(np.abs(one[finite] - other[finite]).max(initial=0) / largest)


def assert_same(actual: xr.Dataset, expected: xr.Dataset) -> None:
    """Compare the variables of two datasets: floats within `ROUNDING` of the largest, others exactly."""
    assert set(actual.data_vars) == set(expected.data_vars)
    for name, values in expected.data_vars.items():
        if values.dtype.kind == "f":
            assert relative_error(actual[name], values) <= ROUNDING, name
        else:
            assert actual[name].equals(values), name


def _array(values: ArrayLike) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().double().numpy()
    return np.asarray(values, dtype=np.float64)
