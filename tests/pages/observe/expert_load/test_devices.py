"""Devices on Expert load: what can be chosen, and what is said and tabled of a load worked out by hand."""

import numpy as np
import pytest
import xarray as xr

from model.trace.load import Load
from model.trace.router_rule import RouterRule
from pages.observe.expert_load import devices


def loaded(rows: list[list[int]], num_groups: int = 1) -> Load:
    counts = xr.DataArray(np.array(rows), dims=("moe_layer", "expert"), coords={"moe_layer": range(1, 1 + len(rows))})
    rule = RouterRule(num_experts=len(rows[0]), num_groups=num_groups, top_k=2)
    return Load(counts, sum(rows[0]) // 2, 0, rule, None, None)


LOAD = loaded([[12, 4, 3, 1], [5, 5, 5, 5]])


def test_only_numbers_that_divide_are_offered() -> None:
    assert devices.devices_of(12) == [2, 3, 4, 6, 12]
    assert devices.redundant_of(12, 4) == [0, 4, 8, 12]
    assert devices.redundant_of(12, 12) == [0, 12]


@pytest.mark.parametrize(("number", "nodes"), [(2, 1), (8, 1), (12, 1), (16, 2), (64, 8)])
def test_machines_have_eight_devices(number: int, nodes: int) -> None:
    assert devices.nodes_of(number) == nodes


def test_table_has_both_placements() -> None:
    """As numbered the devices carry 16 and 4; with copies of expert 0, three of 4 each, 11 and 9."""
    table = devices.by_layer(LOAD, *devices.placements(LOAD, 2, 2))
    assert table["balancedness before"].tolist() == pytest.approx([10 / 16, 1], abs=1e-5)
    assert table["busiest device before (× mean)"].tolist() == pytest.approx([1.6, 1])
    assert table["balancedness after"].tolist()[0] == pytest.approx(10 / 11, abs=1e-5)
    assert table["busiest device after (× mean)"].tolist()[0] == pytest.approx(1.1)
    assert table["copied experts"].tolist()[0] == "E0 × 3"


def test_words_name_the_worst_layer() -> None:
    said = devices.verdict(LOAD, *devices.placements(LOAD, 2, 0))
    assert "With experts placed by number on 2 devices, the busiest device carries 1.6 times the mean load" in said
    assert "in L1" in said
    assert "With 0 redundant experts" in said
    assert "Experts per device, copies included: 2. n = 10 tokens; simulated." in said
    wide = loaded([[1] * 32], num_groups=4)
    assert "stays on one of the 2 machines" in devices.verdict(wide, *devices.placements(wide, 16, 0))
