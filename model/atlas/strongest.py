"""For each expert the label that it serves most, out of the lifts of all labels."""

import numpy as np
import pandas as pd
import xarray as xr


def strongest(found: xr.Dataset) -> xr.Dataset:
    """Return the variables of `specialists` at one label per expert, [moe_layer, expert], and its name as `serves`.

    The label is the one with the largest lift above 0 that survives; if none does, `serves` is "" and the other
    variables are those of the largest lift that was tested. `lift` is NaN where no label has enough documents.

    Args:
        found: the result of `model.atlas.lift.specialists`.
    """
    lift, tested = found["lift"].values, np.isfinite(found["q"].values)
    called = found["survives"].values & (lift > 0)
    rank = np.where(called, 2, np.where(tested, 1, 0))
    order = np.lexsort((np.nan_to_num(lift), rank), axis=0)[-1]
    best = found.isel(label=xr.DataArray(order, dims=("moe_layer", "expert")))
    serves = called.any(0)
    names = np.where(serves, best["label"].values, "")
    lifts = np.where(tested.any(0), best["lift"].values, np.nan)
    return best.assign(
        serves=(("moe_layer", "expert"), names),
        survives=(("moe_layer", "expert"), serves),
        lift=(("moe_layer", "expert"), lifts),
    )


def tally(found: xr.Dataset) -> pd.Series:
    """Return the number of specialists of each label that has one, the label with the most first."""
    called = found["survives"].values & (found["lift"].values > 0)
    numbers = pd.Series(called.sum((1, 2)), index=found["label"].values).sort_values(ascending=False, kind="stable")
    return numbers.loc[numbers > 0]
