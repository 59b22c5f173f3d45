"""Placements worked out by hand, EPLB's own example, and laws for any placement."""

import doctest

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from model.trace import metrics, placement
from model.trace.placement import Placement, PlacementError, as_numbered, balanced, device_figures

# The example of EPLB's README: 12 experts, 16 places, 4 groups, 2 nodes, 8 devices.
EXAMPLE = [[90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86], [20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27]]


def counted(rows: list[list[int]]) -> xr.DataArray:
    return xr.DataArray(rows, dims=("moe_layer", "expert"), coords={"moe_layer": range(3, 3 + len(rows))})


def test_as_numbered_puts_neighbours_together() -> None:
    counts = counted([[5, 1, 0, 2], [1, 1, 1, 1]])
    placed = as_numbered(counts, 2)
    assert placed.load(counts).values.tolist() == [[6, 2], [2, 2]]
    assert placed.load(counts).coords["moe_layer"].values.tolist() == [3, 4]
    assert (placed.copies == 1).all()


def test_packing_alone_sets_heavy_beside_light() -> None:
    counts = counted([[8, 7, 2, 1]])
    placed = balanced(counts, 2)
    assert placed.expert.values.tolist() == [[0, 3, 1, 2]]
    assert placed.load(counts).values.tolist() == [[9, 9]]


def test_the_heaviest_get_the_copies() -> None:
    """By hand: 12 > 4, 3, 1, so the first copy halves expert 0 to 6, the second makes it thirds of 4."""
    counts = counted([[12, 4, 3, 1]])
    placed = balanced(counts, 2, num_redundant=2)
    assert placed.copies.values.tolist() == [[3, 1, 1, 1]]
    assert placed.load(counts).values.tolist() == [[11, 9]]


def test_groups_stay_on_one_node() -> None:
    counts = counted([[9, 1, 1, 1, 8, 1, 1, 1]])  # groups of two: 10, 2, 9, 2
    placed = balanced(counts, 4, num_groups=4, num_nodes=2)
    on_node = placed.expert.values.reshape(2, -1) // 2
    assert [sorted(set(groups.tolist())) for groups in on_node] == [[0, 3], [1, 2]]
    anywhere = balanced(counts, 4, num_groups=3, num_nodes=2)  # three groups do not divide among two nodes
    assert np.array_equal(anywhere.expert, balanced(counts, 4).expert)


def test_example_of_eplb_with_groups_on_nodes() -> None:
    counts = counted(EXAMPLE)
    placed = balanced(counts, 8, num_redundant=4, num_groups=4, num_nodes=2)
    assert placed.expert.values.tolist() == [
        [5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1],
        [7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1],
    ]
    assert placed.copies.values.tolist() == [[1, 2, 1, 1, 2, 2, 1, 1, 1, 1, 2, 1], [1, 2, 1, 1, 1, 2, 2, 1, 2, 1, 1, 1]]
    load = placed.load(counts)
    assert load.values[0].tolist() == [121.5, 86.5, 125, 113, 147.5, 131.5, 156, 152]
    assert metrics.balancedness(load, "device").values == pytest.approx([0.8277, 0.8050], abs=5e-5)


def test_example_of_eplb_over_all_nodes() -> None:
    placed = balanced(counted(EXAMPLE), 8, num_redundant=4, num_groups=3, num_nodes=2)
    assert placed.expert.values.tolist() == [
        [10, 6, 10, 7, 0, 2, 11, 4, 5, 9, 5, 4, 8, 3, 1, 1],
        [1, 10, 2, 4, 5, 11, 5, 0, 6, 7, 6, 3, 8, 8, 9, 7],
    ]
    assert metrics.balancedness(placed.load(counted(EXAMPLE)), "device").values == pytest.approx(
        [0.9323, 0.8401], abs=5e-5
    )


@pytest.mark.parametrize(
    ("devices", "redundant", "nodes", "message"),
    [
        (3, 0, 1, "4 do not divide evenly among 3 devices"),
        (4, 2, 1, "6 do not divide evenly among 4 devices"),
        (0, 0, 1, "among 0 devices"),
        (2, -2, 1, "-2 redundant experts"),
    ],
)
def test_what_cannot_be_placed_is_refused(devices: int, redundant: int, nodes: int, message: str) -> None:
    counts = counted([[1, 1, 1, 1]])
    with pytest.raises(PlacementError, match=message):
        balanced(counts, devices, redundant, 2, nodes)


def test_devices_must_divide_among_the_nodes() -> None:
    with pytest.raises(PlacementError, match="3 do not divide evenly among 2 nodes"):
        balanced(counted([[1] * 6]), 3, num_groups=2, num_nodes=2)
    with pytest.raises(PlacementError, match="4 do not divide evenly among 3 devices"):
        as_numbered(counted([[1] * 4]), 3)


@st.composite
def placed(draw: st.DrawFn) -> tuple[xr.DataArray, Placement, int]:
    """Counts, their placement, and how many experts are redundant."""
    nodes, per_node = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    devices, groups = nodes * per_node, nodes * draw(st.integers(1, 3))
    size, layers = devices * draw(st.integers(1, 2)), draw(st.integers(1, 3))
    redundant = devices * draw(st.integers(0, 3))
    rows = draw(st.lists(st.lists(st.integers(0, 99), min_size=groups * size, max_size=groups * size),
                         min_size=layers, max_size=layers))  # fmt: skip
    counts = counted(rows)
    return counts, balanced(counts, devices, redundant, groups, nodes), redundant


@given(placed())
def test_identities_of_any_placement(case: tuple[xr.DataArray, Placement, int]) -> None:
    counts, made, redundant = case
    num_experts = counts.sizes["expert"]
    assert made.expert.sizes["place"] == num_experts + redundant
    assert (made.copies >= 1).all()  # nobody is left out
    assert (made.copies.sum("expert") == num_experts + redundant).all()
    load = made.load(counts)
    assert load.sizes["device"] == made.num_devices
    assert np.allclose(load.sum("device"), counts.sum("expert"))  # nothing is lost, nothing counted twice
    assert np.allclose(load.mean("device"), as_numbered(counts, made.num_devices).load(counts).mean("device"))
    evenness = metrics.balancedness(load, "device")
    assert ((evenness > 0) & (evenness <= 1 + 1e-9)).all()


@given(placed())
def test_copies_go_where_they_help_most(case: tuple[xr.DataArray, Placement, int]) -> None:
    """On one node, no copy has a higher load than a copied expert had per copy before its last copy was made."""
    counts, _, redundant = case
    made = balanced(counts, 1, redundant)
    copies, weight = made.copies.values, counts.values
    for row in range(len(weight)):
        copied = copies[row] > 1
        if copied.any():
            assert (weight[row] / copies[row]).max() <= (weight[row] / (copies[row] - 1 + ~copied))[copied].min() + 1e-9


def test_worked_example() -> None:
    assert doctest.testmod(placement) == (0, 3)


def test_how_evenly_devices_are_loaded() -> None:
    """Layer 3: 16 and 4, mean 10; layer 4: 10 and 10."""
    counts = counted([[12, 4, 3, 1], [5, 5, 5, 5]])
    figures = device_figures(as_numbered(counts, 2), counts)
    assert figures["ratio"].values.tolist() == [[1.6, 0.4], [1, 1]]
    assert figures["balancedness"].values.tolist() == pytest.approx([10 / 16, 1], abs=1e-5)
    assert figures["busiest"].values.tolist() == [1.6, 1]
    assert float(figures["mean_balancedness"]) == pytest.approx(26 / 32, abs=1e-5)
    assert float(figures["largest"]) == 1.6


def test_copies_of_an_expert_can_be_bounded() -> None:
    """Without a bound expert 0 has three places; with two, the next copy goes to expert 1, the first of the others."""
    counts = counted([[12, 1, 1, 0]])
    assert balanced(counts, 2, 2).copies.values.tolist() == [[3, 1, 1, 1]]
    assert balanced(counts, 2, 2, most_copies=2).copies.values.tolist() == [[2, 2, 1, 1]]
    with pytest.raises(PlacementError, match="10 places are more than 2 for each of 4 experts"):
        balanced(counts, 2, 6, most_copies=2)


def test_windows_are_loaded_as_their_counts() -> None:
    counts = counted([[12, 4, 3, 1], [5, 5, 5, 5]])
    made = balanced(counts, 2, 2)
    windows = np.stack([counts.values, 3 * counts.values])
    assert np.array_equal(made.loads(windows)[1], 3 * made.load(counts).values)
