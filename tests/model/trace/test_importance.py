"""The summary of an importance map, by hand."""

import doctest

import numpy as np
import xarray as xr

from model.trace import importance


def effects(change: list[list[float]], kl: list[list[float]], rerouted: list[list[int]]) -> xr.Dataset:
    dims = ("moe_layer", "expert")
    values = {"logprob_change": change, "kl": kl, "chosen_by": [[1, 2], [3, 4]], "rerouted": rerouted}
    return xr.Dataset({name: (dims, rows) for name, rows in values.items()}, coords={"moe_layer": [3, 5]})


def test_example() -> None:
    assert doctest.testmod(importance) == (0, 3)


def test_larger_kl_decides_between_two_that_are_missed_alike() -> None:
    found = importance.summarise(effects([[-1, 0], [-1, 2]], [[0.1, 0], [0.2, 0.9]], [[1, 0], [2, 5]]))
    assert found == importance.Summary(4, 1, layer=5, expert=0, logprob_change=-1.0, chosen_by=3)


def test_lower_layer_decides_between_two_alike_in_both() -> None:
    found = importance.summarise(effects([[0, -1], [-1, 2]], [[0, 0.2], [0.2, 0.9]], [[0, 1], [2, 5]]))
    assert found is not None
    assert (found.layer, found.expert) == (3, 1)


def test_expert_that_was_not_knocked_out_does_not_count() -> None:
    nan = float("nan")
    found = importance.summarise(effects([[nan, 0.5], [nan, nan]], [[nan, 0.1], [nan, nan]], [[0, 3], [0, 0]]))
    assert found == importance.Summary(1, 0, layer=3, expert=1, logprob_change=0.5, chosen_by=2)
    assert importance.summarise(effects(*np.full((2, 2, 2), nan).tolist(), [[0, 0], [0, 0]])) is None
