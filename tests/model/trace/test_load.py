import dataclasses

import numpy as np
import pytest
import xarray as xr

from model.trace import load as loads
from model.trace.trace import Trace
from tests.traces import family_trace, random_trace, routed


def only(trace: Trace, *places: int) -> xr.DataArray:
    return xr.DataArray(np.isin(np.arange(trace.num_tokens), places), dims=("token",))


def test_counts_and_chance_are_of_the_tokens_that_count() -> None:
    trace = routed([0, 1], [0, 2], [3, 4])
    load = loads.measure(trace, only(trace, 0, 1))
    assert load.counts.values.tolist() == [[2, 1, 1, 0, 0, 0, 0, 0]] * 2
    assert load.band is not None
    assert (load.num_tokens, load.num_unknown, load.band.num_tokens) == (2, 0, 2)
    assert loads.measure(trace).num_tokens == 3


def test_tokens_whose_experts_are_unknown_do_not_count() -> None:
    load = loads.measure(routed([0, 1], [2, 3], unknown=2))
    assert load.band is not None
    assert (load.num_tokens, load.num_unknown, load.band.num_tokens) == (2, 2, 2)


def test_nothing_counted_has_neither_ratio_nor_chance() -> None:
    trace = routed([0, 1])
    load = loads.measure(trace, only(trace))
    assert (load.num_tokens, load.band, load.kept) == (0, None, None)
    assert np.isnan(load.ratio.values).all()


def test_layers_of_a_load_worked_out_by_hand() -> None:
    """Of four tokens three take experts 0 and 1, one takes 2 and 3: a fair share of eight experts is one token."""
    load = loads.measure(routed([0, 1], [0, 1], [0, 1], [2, 3]))
    layer = loads.by_layer(load).sel(moe_layer=1)
    assert {name: float(layer[name]) for name in ("max_violation", "dead", "hot", "busiest", "most")} == {
        "max_violation": 2, "dead": 4, "hot": 2, "busiest": 0, "most": 3,
    }  # fmt: skip
    assert float(layer["largest_ratio"]) == 3
    assert float(layer["variation"]) == pytest.approx(np.sqrt(12 / 8))
    assert load.num_outside == int(layer["outside"]) * 2 == 0  # three of four tokens are within chance of 8 experts
    assert load.fewest == 18


def test_experts_of_a_load_have_a_share_with_its_interval() -> None:
    part = loads.by_expert(loads.measure(routed([0, 1], [0, 1], [0, 1], [2, 3])), 2)
    assert part["tokens"].values.tolist() == [3, 3, 1, 1, 0, 0, 0, 0]
    assert part["share"].values.tolist() == [0.75, 0.75, 0.25, 0.25, 0, 0, 0, 0]
    assert part["ratio"].values.tolist() == [3, 3, 1, 1, 0, 0, 0, 0]
    assert (float(part["low"][0]), float(part["high"][0])) == pytest.approx((0.301, 0.954), abs=0.001)


def test_groups_of_a_load() -> None:
    load = loads.measure(routed([0, 1], [0, 1], [0, 1], [2, 3]))
    part = loads.by_group(load)
    assert part["slots"].values.tolist() == [[6, 2, 0, 0]] * 2
    assert part["ratio"].values.tolist() == [[3, 1, 0, 0]] * 2
    assert load.kept is not None
    assert (part["share"] * 4 == load.kept).all()
    assert (part["low"] <= part["share"]).all()
    assert (part["share"] <= part["high"]).all()


def test_least_even_layers_come_first() -> None:
    trace = routed([0, 1], [2, 3])
    ids = trace.data["expert_id"].values.copy()
    ids[:, 1] = [[0, 1], [0, 1]]
    data = trace.data.assign(expert_id=(("token", "moe_layer", "rank"), ids))
    load = loads.measure(dataclasses.replace(trace, data=data))
    assert load.violation.values.tolist() == [1, 3]
    assert load.least_even == [2, 1]
    assert load.band is not None
    assert load.num_uneven == int((load.violation > load.band.max_violation).sum())


def test_band_of_all_tokens_of_a_run() -> None:
    trace = random_trace()
    assert loads.band(trace) == loads.measure(trace).band
    assert loads.band(dataclasses.replace(trace, data=trace.data.drop_vars("expert_id"))) is None


def test_choices_that_compute_nothing_count_as_choices_and_are_never_dead() -> None:
    """Two tokens take experts 0, 6 and 1, 6; columns 6 and 7 compute nothing: 2 of 4 choices, and 4 of 6 are dead."""
    trace = family_trace(idle_from=6, num_prompt=2, num_new=0)
    ids = np.broadcast_to(np.array([[[0, 6]], [[1, 6]]], np.int16), (2, 3, 2))
    load = loads.measure(
        dataclasses.replace(trace, data=trace.data.assign(expert_id=(trace.data["expert_id"].dims, ids)))
    )
    assert load.counts.values[0].tolist() == [1, 1, 0, 0, 0, 0, 2, 0]
    assert load.computing.values[0].tolist() == [1, 1, 0, 0, 0, 0]
    assert load.idle_share == 0.5
    assert loads.by_layer(load)["dead"].values.tolist() == [4, 4, 4]
    assert loads.measure(routed([0, 1])).idle_share == 0
