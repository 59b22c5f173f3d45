"""Read expert maps as the engines do, written from their sources and documentation; each refuses what its engine would.

SGLang: `init_by_mapping` of python/sglang/srt/eplb/expert_location.py. vLLM: pull request 49572. vllm-ascend:
`ExpertLoadBalancer` of vllm_ascend/ops/expert_load_balancer.py. TensorRT-LLM: examples/wide_ep/ep_load_balancer.
"""

import json
from collections.abc import Callable

import numpy as np
import xarray as xr
import yaml

from model.trace.placement import Placement

Reader = Callable[[str, tuple[int, ...], int, int, int], Placement]


def _placement(rows: np.ndarray, layers: tuple[int, ...], num_experts: int, num_ranks: int) -> Placement:
    """Check that the places divide among ranks and hold every expert, as all engines need it."""
    assert rows.ndim == 2
    assert rows.shape[1] % num_ranks == 0
    for row in rows:
        assert set(row.tolist()) == set(range(num_experts))
    expert = xr.DataArray(rows, {"moe_layer": list(layers)}, ("moe_layer", "place"))
    return Placement(expert, num_experts, num_ranks)


def sglang(text: str, layers: tuple[int, ...], num_layers: int, num_experts: int, num_ranks: int) -> Placement:
    """All layers have a row, and every row must be a map: SGLang inverts the rows of dense layers, too."""
    loaded = json.loads(text)
    assert list(loaded) == ["physical_to_logical_map"]  # any other key is an argument that the function does not have
    rows = np.array(loaded["physical_to_logical_map"])
    assert len(rows) == num_layers
    everywhere = _placement(rows, tuple(range(num_layers)), num_experts, num_ranks)
    return Placement(everywhere.expert.sel(moe_layer=list(layers)), num_experts, num_ranks)


def vllm(text: str, layers: tuple[int, ...], num_layers: int, num_experts: int, num_ranks: int) -> Placement:
    rows = np.array(json.loads(text))
    rows = np.tile(rows, (len(layers), 1)) if rows.ndim == 1 else rows
    assert len(rows) == len(layers)
    return _placement(rows, layers, num_experts, num_ranks)


def vllm_ascend(text: str, layers: tuple[int, ...], num_layers: int, num_experts: int, num_ranks: int) -> Placement:
    """An expert's index on a device is looked up by its number, so a device holds it once."""
    loaded = json.loads(text)
    assert loaded["moe_layer_count"] == len(layers)
    assert [layer["layer_id"] for layer in loaded["layer_list"]] == list(range(len(layers)))
    devices = [[device["device_expert"] for device in layer["device_list"]] for layer in loaded["layer_list"]]
    array = np.array(devices)
    assert array.shape[1] == loaded["layer_list"][0]["device_count"] == num_ranks
    assert all(len(set(experts)) == len(experts) for layer in devices for experts in layer)
    return _placement(array.reshape(len(layers), -1), layers, num_experts, num_ranks)


def tensorrt_llm(text: str, layers: tuple[int, ...], num_layers: int, num_experts: int, num_ranks: int) -> Placement:
    loaded = yaml.safe_load(text)
    assert set(loaded) == {"num_slots", "layer_updates_per_iter", "initial_global_assignments"}
    assert loaded["layer_updates_per_iter"] == 0  # the map never changes
    rows = loaded["initial_global_assignments"]
    assert tuple(rows) == layers
    array = np.array(list(rows.values()))
    assert array.shape[1] == loaded["num_slots"]
    return _placement(array, layers, num_experts, num_ranks)


READERS: dict[str, Reader] = {"sglang": sglang, "vllm": vllm, "vllm-ascend": vllm_ascend, "tensorrt-llm": tensorrt_llm}
