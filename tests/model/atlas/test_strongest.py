import numpy as np
import xarray as xr

from model.atlas.strongest import strongest, tally

AXES = ("label", "moe_layer", "expert")


def found() -> xr.Dataset:
    """Two labels, one layer, four experts: called twice, called once against, tested only, untested."""
    lift = np.array([[[1.5, 1.0, 0.3, 2.0]], [[2.5, -3.0, 0.4, 4.0]]])
    survives = np.array([[[True, False, False, False]], [[True, True, False, False]]])
    q = np.where([[[1, 1, 1, 0]], [[1, 1, 1, 0]]], 0.01, np.nan)
    variables = {"lift": (AXES, lift), "survives": (AXES, survives), "q": (AXES, q), "documents": ("label", [30, 40])}
    return xr.Dataset(variables, {"label": ["code", "maths"], "moe_layer": [3], "expert": range(4)})


def test_each_expert_serves_the_label_of_its_largest_called_lift() -> None:
    best = strongest(found())
    assert best["serves"].values.tolist() == [["maths", "", "", ""]]
    assert best["survives"].values.tolist() == [[True, False, False, False]]
    assert np.array_equal(best["lift"].values, [[2.5, 1.0, 0.4, np.nan]], equal_nan=True)
    assert best["label"].values[0, :3].tolist() == ["maths", "code", "maths"]
    assert best["documents"].values[0, :3].tolist() == [40, 30, 40]


def test_tally_counts_lifts_above_zero_only() -> None:
    assert tally(found()).to_dict() == {"code": 1, "maths": 1}
