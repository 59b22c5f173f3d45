"""Tables of curves over steps."""

import math

import xarray as xr

from pages.learn.training import tables


def test_curves_become_columns_and_lacking_steps_stay_empty() -> None:
    one = xr.DataArray([1.0, 2.0], dims="step", coords={"step": [10, 20]})
    two = xr.DataArray([3.0], dims="step", coords={"step": [20]})
    table = tables.by_step({"one": one, "two": two})
    assert table["step"].tolist() == [10, 20]
    assert table["one"].tolist() == [1.0, 2.0]
    assert math.isnan(table["two"].tolist()[0])
    assert table["two"].tolist()[1] == 3.0


def test_experts_become_columns() -> None:
    values = xr.DataArray([[1.0, 2.0]], dims=("step", "expert"), coords={"step": [5]})
    assert tables.by_expert(values).to_dict("list") == {"step": [5], "0": [1.0], "1": [2.0]}
