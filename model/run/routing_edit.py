"""Turns the interventions of a request into the tensors of a `RoutingEdit`.

Shape suffixes: T tokens, E experts, K selected experts.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np
import torch

from model.network.config import ModelConfig
from model.network.edit import GivenRouting, LayerEdit, RoutingEdit, check_edit, unchanged
from model.run.interventions import (
    BiasOff,
    ForceExpert,
    GateTemperature,
    GroupLimitOff,
    Intervention,
    KnockOut,
    Replay,
    ScoreThreshold,
    TopK,
)
from model.run.request import RequestError


def routing_edit(
    interventions: Iterable[Intervention], config: ModelConfig, device: torch.device
) -> RoutingEdit | None:
    """Return the edit that a run with these interventions applies; None without interventions.

    Raises:
        RequestError: an intervention names a layer or expert that the model lacks.
        EditError: the interventions together leave the router too few experts, or contradict each other.
    """
    layers: dict[int, LayerEdit] = {}
    for change in interventions:
        for layer in _affected(change, config):
            edit = layers.get(layer) or unchanged(config, device)
            layers[layer] = _apply(edit, change, layer, config)
    for layer, edit in layers.items():
        check_edit(config, layer, edit)
    return RoutingEdit(layers) if layers else None


def _affected(change: Intervention, config: ModelConfig) -> tuple[int, ...]:
    if isinstance(change, TopK):
        return config.moe_layers
    if isinstance(change, Replay):
        named = change.layers
    elif change.layer is None:
        return config.moe_layers
    else:
        named = (change.layer,)
    if without := [layer for layer in named if layer not in config.moe_layers]:
        first, last = config.moe_layers[0], config.moe_layers[-1]
        raise RequestError(f"layer {without[0]} has no router; MoE layers are {first} to {last}")
    return named


def _apply(edit: LayerEdit, change: Intervention, layer: int, config: ModelConfig) -> LayerEdit:
    match change:
        case KnockOut():
            return dataclasses.replace(edit, knocked_out_E=_mark(edit.knocked_out_E, change.expert))
        case ForceExpert():
            return dataclasses.replace(edit, forced_E=_mark(edit.forced_E, change.expert))
        case TopK():
            if not 1 <= change.k <= config.num_experts:
                raise RequestError(f"top-k {change.k} is not between 1 and {config.num_experts}")
            return dataclasses.replace(edit, top_k=change.k)
        case BiasOff():
            return dataclasses.replace(edit, use_bias=False)
        case GroupLimitOff():
            return dataclasses.replace(edit, limit_groups=False)
        case GateTemperature():
            return dataclasses.replace(edit, temperature=change.temperature)
        case ScoreThreshold():
            return dataclasses.replace(edit, threshold=change.threshold)
        case Replay():
            return dataclasses.replace(edit, given=_given(change, layer, edit.knocked_out_E))


def _given(change: Replay, layer: int, like: torch.Tensor) -> GivenRouting:
    """Return the replayed routing of one layer, on the device of the tensor `like` [E]."""
    row, num_experts = change.layers.index(layer), len(like)
    ids_TK = torch.from_numpy(change.id_array[:, row].astype(np.int64))
    if int(ids_TK.max()) >= num_experts:
        raise RequestError(f"the replayed routing names expert {int(ids_TK.max())}; experts are 0 to {num_experts - 1}")
    weights_TK = torch.from_numpy(change.weight_array[:, row].astype(np.float32))
    return GivenRouting(ids_TK.to(like.device), weights_TK.to(like.device))


def _mark(mask_E: torch.Tensor, expert: int) -> torch.Tensor:
    if not 0 <= expert < len(mask_E):
        raise RequestError(f"expert {expert} does not exist; experts are 0 to {len(mask_E) - 1}")
    marked_E = mask_E.clone()
    marked_E[expert] = True
    return marked_E
