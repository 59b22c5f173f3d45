"""What the log lines of a training run come to over several steps; arrays with a `step` axis in and out.

Losses of three steps:

    >>> losses = xr.DataArray([4.0, 2.0, 3.0], dims="step", coords={"step": [1, 2, 3]})
    >>> running_mean(losses, 2).values.tolist()
    [4.0, 3.0, 2.5]
    >>> sums(losses, 2).to_series().to_dict()
    {2: 6.0, 3: 3.0}
"""

import numpy as np
import xarray as xr


def running_mean(values: xr.DataArray, window: int) -> xr.DataArray:
    """Mean over the last `window` steps up to each, [step, ...]; at the start over as many as there are."""
    return values.rolling(step=window, min_periods=1).mean()


def sums(values: xr.DataArray, window: int) -> xr.DataArray:
    """Sums over spans of `window` steps, the last as long as what is left, [step, ...]; each carries its last step."""
    first = np.arange(0, values.sizes["step"], window)
    last = np.minimum(first + window, values.sizes["step"]) - 1
    added = np.add.reduceat(values.values, first, axis=values.get_axis_num("step"))
    return values.isel(step=last).copy(data=added)
