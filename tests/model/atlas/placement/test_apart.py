"""Copies of an expert move to different devices, and nothing is lost."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from model.atlas.placement.apart import copies_apart
from model.trace.placement import Placement, PlacementError, balanced


def counted(rows: list[list[int]]) -> xr.DataArray:
    return xr.DataArray(rows, dims=("moe_layer", "expert"), coords={"moe_layer": range(3, 3 + len(rows))})


def placed(rows: list[list[int]], num_experts: int, num_devices: int) -> Placement:
    expert = xr.DataArray(rows, dims=("moe_layer", "place"), coords={"moe_layer": range(3, 3 + len(rows))})
    return Placement(expert, num_experts, num_devices)


def test_a_second_copy_changes_with_the_expert_that_leaves_the_lower_peak() -> None:
    """By hand: expert 0 carries 8, 4 in each place. Device 0 has 4 + 4 = 8, device 1 has 3 + 1 = 4.

    With expert 1, the devices carry 4 + 3 = 7 and 4 + 1 = 5; with expert 2, 4 + 1 = 5 and 4 + 3 = 7: as even. The
    first of them is taken.
    """
    counts = counted([[8, 3, 1]])
    apart = copies_apart(placed([[0, 0, 1, 2]], 3, 2), counts)
    assert apart.expert.values.tolist() == [[0, 1, 0, 2]]
    assert apart.load(counts).values.tolist() == [[7, 5]]


def test_copies_stay_on_their_node() -> None:
    """Device 0 may exchange with device 1 only, which shares its node."""
    counts = counted([[8, 2, 2, 1, 1, 1]])
    apart = copies_apart(placed([[0, 0, 1, 2, 3, 4, 5, 5]], 6, 4), counts, num_nodes=2)
    assert [sorted(device) for device in apart.expert.values.reshape(4, 2).tolist()[:2]] == [[0, 1], [0, 2]]


def test_what_cannot_be_taken_apart_is_refused() -> None:
    with pytest.raises(PlacementError, match="two copies of expert 0 of L3 stay on device 0"):
        copies_apart(placed([[0, 0, 3, 0, 1, 2]], 4, 2), counted([[6, 1, 1, 0]]))


@given(st.integers(2, 4), st.integers(1, 3), st.integers(0, 1), st.integers(0, 999))
def test_nothing_is_lost(ranks: int, per_rank: int, copies: int, seed: int) -> None:
    counts = counted(np.random.default_rng(seed).integers(0, 99, (2, ranks * per_rank)).tolist())
    placement = balanced(counts, ranks, ranks * copies, most_copies=ranks)
    assert int(placement.copies.max()) <= ranks
    try:
        apart = copies_apart(placement, counts)
    except PlacementError:
        return
    assert (apart.copies == placement.copies).all()
    assert np.allclose(apart.load(counts).sum("device"), counts.sum("expert"))
    for device in apart.expert.values.reshape(-1, apart.expert.sizes["place"] // ranks):
        assert len(set(device.tolist())) == len(device)
