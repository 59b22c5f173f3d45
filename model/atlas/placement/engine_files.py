"""Write the expert map of a placement in the format of a serving engine.

The engines number the rows of a map in three ways: by all layers of the model, dense ones included (SGLang); by MoE
layers from 0 on (vLLM, vllm-ascend); by the model's layer numbers, MoE layers only (TensorRT-LLM). Consecutive places
belong to one rank in all of them.

Sources: SGLang `python/sglang/srt/eplb/expert_location.py` (commit 01fec5c); vLLM pull request 49572, open in August
2026; vllm-ascend `vllm_ascend/ops/expert_load_balancer.py` (commit 8df40d4); TensorRT-LLM
`examples/wide_ep/ep_load_balancer/README.md` (commit 2a595f8).
"""

import dataclasses
import json
from collections.abc import Callable

import numpy as np

from model.trace.placement import Placement, PlacementError


@dataclasses.dataclass(frozen=True)
class Engine:
    """A serving engine that reads an expert map.

    Attributes:
        name: name of the engine.
        write: function from a placement and the model's number of layers (None: unknown) to the text of the file.
        start: how to start the engine with the file; {file}, {ranks} and {redundant} are filled in.
        one_copy: whether a device holds at most one copy of an expert.
        suffix: how the file's name must end; None: any name.
    """

    name: str
    write: Callable[[Placement, int | None], str]
    start: str
    one_copy: bool = False
    suffix: str | None = None


def sglang(placement: Placement, num_layers: int | None) -> str:
    """Return the JSON of `--init-expert-location`: a row per layer of the model, experts in order for a dense layer.

    Raises:
        PlacementError: the model's number of layers is unknown, or smaller than a MoE layer's number.
    """
    rows = dict(zip(_layers(placement), placement.expert.values.tolist(), strict=True))
    if num_layers is None:
        raise PlacementError("SGLang's map has a row per layer of the model, and the number of layers is unknown")
    if max(rows) >= num_layers:
        raise PlacementError(f"the model has {num_layers} layers and no layer {max(rows)}")
    in_order = (np.arange(placement.expert.sizes["place"]) % placement.num_experts).tolist()
    return _json({"physical_to_logical_map": [rows.get(layer, in_order) for layer in range(num_layers)]})


def vllm(placement: Placement, num_layers: int | None) -> str:  # noqa: ARG001 - all writers have the same arguments
    """Return the JSON of `eplb_config.initial_expert_map_path`: a row per MoE layer."""
    return _json(placement.expert.values.tolist())


def vllm_ascend(placement: Placement, num_layers: int | None) -> str:  # noqa: ARG001
    """Return the JSON of `eplb_config.expert_map_path`: a list of experts per MoE layer and device."""
    expert_LDP = placement.expert.values.reshape(len(placement.expert), placement.num_devices, -1)
    layers = [
        {
            "layer_id": row,
            "device_count": placement.num_devices,
            "device_list": [
                {"device_id": device, "device_expert": experts} for device, experts in enumerate(expert_DP.tolist())
            ],
        }
        for row, expert_DP in enumerate(expert_LDP)
    ]
    return _json({"moe_layer_count": len(layers), "layer_list": layers})


def tensorrt_llm(placement: Placement, num_layers: int | None) -> str:  # noqa: ARG001
    """Return the YAML of `moe_config.load_balancer`: a line per MoE layer by its number; the map never changes."""
    rows = zip(_layers(placement), placement.expert.values.tolist(), strict=True)
    lines = [f"  {layer}: {json.dumps(experts)}\n" for layer, experts in rows]
    places = placement.expert.sizes["place"]
    return f"num_slots: {places}\nlayer_updates_per_iter: 0\ninitial_global_assignments:\n{''.join(lines)}"


ENGINES = {
    "sglang": Engine(
        "SGLang",
        sglang,
        "--init-expert-location {file} --ep-size {ranks} --ep-num-redundant-experts {redundant} "
        "--ep-dispatch-algorithm dynamic",
        suffix=".json",
    ),
    "vllm": Engine(
        "vLLM",
        vllm,
        "--enable-expert-parallel --enable-eplb --eplb-config with num_redundant_experts {redundant} and "
        "initial_expert_map_path {file}; this option is proposed (pull request 49572), vLLM 0.33 has none for a map",
    ),
    "vllm-ascend": Engine(
        "vllm-ascend",
        vllm_ascend,
        "eplb_config with expert_map_path {file}, on {ranks} devices",
        one_copy=True,
    ),
    "tensorrt-llm": Engine(
        "TensorRT-LLM", tensorrt_llm, "moe_config with load_balancer: {file}, and an expert-parallel size of {ranks}"
    ),
}


def _layers(placement: Placement) -> list[int]:
    return [int(layer) for layer in placement.expert["moe_layer"].values]


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":")) + "\n"
