"""Traces for the tests of the Routing page."""

import dataclasses
from typing import Any

import numpy as np

from model.trace.trace import Trace
from pages.observe.routing import path
from tests.traces import random_trace


def losers(trace: Trace) -> dict[str, Any]:
    return {name: mask.sel(moe_layer=3) for name, mask in path.losers(trace, 0).items()}


def knocked_out(trace: Trace, layer: int, expert: int) -> Trace:
    changes = [{"kind": "KnockOut", "layer": layer, "expert": expert}]
    return dataclasses.replace(trace, request=dict(trace.request) | {"interventions": changes})


def softmax_trace() -> Trace:
    """A run of a V2: affinities sum to 1, no bias, groups judged by their best."""
    trace = random_trace(seed=9, num_prompt=5, num_new=9)
    data = trace.data.copy(deep=True)
    data["router_score"] /= data["router_score"].sum("expert")
    data["expert_bias"][:] = 0
    best = data["router_score"].values.reshape(14, 2, 4, 2).max(-1)
    kept = np.argsort(-best, -1)[..., :2]
    data["group_score"][:] = best
    data["group_kept"][:] = (kept[..., None] == np.arange(4)).any(-2)
    reachable = np.where(np.repeat(data["group_kept"].values, 2, -1), data["router_score"].values, -1)
    data["expert_id"][:] = np.argsort(-reachable, -1)[..., :2]
    data["gate_weight"][:] = 16 * np.take_along_axis(data["router_score"].values, data["expert_id"].values, -1)
    softmax = {"scoring_func": "softmax", "norm_topk_prob": False, "routed_scaling_factor": 16.0}
    config = dict(trace.model["config"]) | softmax | {"model_type": "deepseek_v2"}
    return dataclasses.replace(trace, data=data, model=dict(trace.model) | {"config": config})


def without(trace: Trace, *variables: str, **changed: Any) -> Trace:
    data = trace.data.drop_vars([*variables]).copy(deep=True)
    return dataclasses.replace(trace, data=data, **changed)


def changed(trace: Trace, *interventions: dict[str, Any]) -> Trace:
    return dataclasses.replace(trace, request=dict(trace.request) | {"interventions": list(interventions)})


def imported(trace: Trace) -> Trace:
    """Ids alone, as a serving engine gives them."""
    kept = without(trace, "router_score", "expert_bias", "group_score", "group_kept", "gate_weight", "attention")
    return dataclasses.replace(kept, origin=dict(trace.origin) | {"kind": "imported"})


def with_idle_expert(seed: int = 3) -> tuple[Trace, int]:
    """A short trace, and an expert of layer 1 that took none of its tokens."""
    trace = random_trace(seed, num_prompt=2, num_new=0)
    idle = set(range(8)) - set(trace.data["expert_id"].sel(moe_layer=1).values.ravel().tolist())
    return trace, min(idle)


def names(chart: dict[str, Any]) -> list[str]:
    return [part["name"] for part in chart["data"] if "name" in part]
