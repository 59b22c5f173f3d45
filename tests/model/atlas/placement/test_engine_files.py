"""A map is read back by a reader of each engine, and is the same placement."""

import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from model.atlas.placement.apart import copies_apart
from model.atlas.placement.engine_files import ENGINES
from model.trace.placement import Placement, PlacementError, balanced
from tests.model.atlas.placement.engine_readers import READERS


def counted(rows: list[list[int]], first: int = 1) -> xr.DataArray:
    return xr.DataArray(rows, dims=("moe_layer", "expert"), coords={"moe_layer": range(first, first + len(rows))})


# The placement of the fixture: 4 experts on 2 ranks with 2 copies, in layer 1 of a model of 3 layers.
FIXTURE = balanced(counted([[6, 1, 1, 0]]), 2, 2)


@pytest.mark.parametrize(
    ("engine", "text"),
    [
        ("sglang", '{"physical_to_logical_map":[[0,1,2,3,0,1],[0,0,3,0,1,2],[0,1,2,3,0,1]]}\n'),
        ("vllm", "[[0,0,3,0,1,2]]\n"),
        (
            "vllm-ascend",
            '{"moe_layer_count":1,"layer_list":[{"layer_id":0,"device_count":2,"device_list":['
            '{"device_id":0,"device_expert":[0,0,3]},{"device_id":1,"device_expert":[0,1,2]}]}]}\n',
        ),
        (
            "tensorrt-llm",
            "num_slots: 6\nlayer_updates_per_iter: 0\ninitial_global_assignments:\n  1: [0, 0, 3, 0, 1, 2]\n",
        ),
    ],
)
def test_each_format_by_hand(engine: str, text: str) -> None:
    assert FIXTURE.expert.values.tolist() == [[0, 0, 3, 0, 1, 2]]
    assert ENGINES[engine].write(FIXTURE, 3) == text


def test_the_three_ways_of_numbering_rows() -> None:
    """MoE layers 3 and 4 of a model of 5: rows 3 and 4 of five, rows 0 and 1 of two, keys 3 and 4."""
    placement = balanced(counted([[6, 1, 1, 0], [0, 1, 1, 6]], first=3), 2, 2)
    assert len(json.loads(ENGINES["sglang"].write(placement, 5))["physical_to_logical_map"]) == 5
    assert len(json.loads(ENGINES["vllm"].write(placement, 5))) == 2
    assert "\n  3: [" in ENGINES["tensorrt-llm"].write(placement, 5)
    for number, message in ((None, "number of layers is unknown"), (4, "has 4 layers and no layer 4")):
        with pytest.raises(PlacementError, match=message):
            ENGINES["sglang"].write(placement, number)


@st.composite
def placements(draw: st.DrawFn) -> tuple[Placement, xr.DataArray, int]:
    """A placement with at most as many copies of an expert as ranks, its load, and the model's number of layers."""
    ranks, per_rank = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    redundant = ranks * draw(st.integers(0, 2))
    first, layers, after = draw(st.integers(0, 3)), draw(st.integers(1, 3)), draw(st.integers(0, 1))
    numbers = st.lists(st.integers(0, 99), min_size=ranks * per_rank, max_size=ranks * per_rank)
    load = counted(draw(st.lists(numbers, min_size=layers, max_size=layers)), first)
    return (
        balanced(load, ranks, min(redundant, ranks * per_rank * (ranks - 1)), most_copies=ranks),
        load,
        first + layers + after,
    )


@pytest.mark.parametrize("engine", READERS)
@given(case=placements())
def test_a_map_comes_back_as_the_same_placement(engine: str, case: tuple[Placement, xr.DataArray, int]) -> None:
    placement, load, num_layers = case
    if ENGINES[engine].one_copy:
        try:
            placement = copies_apart(placement, load)
        except PlacementError:
            return
    layers = tuple(load["moe_layer"].values.tolist())
    ranks, experts = placement.num_devices, placement.num_experts
    back = READERS[engine](ENGINES[engine].write(placement, num_layers), layers, num_layers, experts, ranks)
    assert back.expert.equals(placement.expert)
    assert np.allclose(back.load(load), placement.load(load))


def test_every_engine_has_a_reader() -> None:
    assert set(READERS) == set(ENGINES)
