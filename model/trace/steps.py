"""Smooth and sum a training run's log over steps. Arguments and results have an axis `step`.

An example with the losses of three steps:

    >>> losses = xr.DataArray([4.0, 2.0, 3.0], dims="step", coords={"step": [1, 2, 3]})
    >>> running_mean(losses, 2).values.tolist()
    [4.0, 3.0, 2.5]
    >>> sums(losses, 2).to_series().to_dict()
    {2: 6.0, 3: 3.0}
"""

import numpy as np
import xarray as xr


def running_mean(values: xr.DataArray, window: int) -> xr.DataArray:
    """Return the mean over the last `window` steps, [step, ...]; at the first steps, over all steps so far."""
    return values.rolling(step=window, min_periods=1).mean()


def sums(values: xr.DataArray, window: int) -> xr.DataArray:
    """Return sums over spans of `window` steps, [step, ...], labelled by the last step of the span.

    The last span may be shorter.
    """
    first = np.arange(0, values.sizes["step"], window)
    last = np.minimum(first + window, values.sizes["step"]) - 1
    added = np.add.reduceat(values.values, first, axis=values.get_axis_num("step"))
    return values.isel(step=last).copy(data=added)
