"""Turns the interventions of a request into the tensors that the router consumes."""

import dataclasses
from collections.abc import Iterable

import torch

from model.network.config import ModelConfig
from model.network.edit import LayerEdit, RoutingEdit, check_survivors, unchanged
from model.run.request import BiasOff, ForceExpert, GroupLimitOff, Intervention, KnockOut, RequestError, TopK


def routing_edit(
    interventions: Iterable[Intervention], config: ModelConfig, device: torch.device
) -> RoutingEdit | None:
    """The edit that a run applies, None when nothing is changed.

    Raises:
        RequestError: an intervention names a layer or expert that the model lacks.
        EditError: the interventions together leave the router too few experts.
    """
    layers: dict[int, LayerEdit] = {}
    for change in interventions:
        for layer in _affected(change, config):
            edit = layers.get(layer) or unchanged(config, device)
            layers[layer] = _apply(edit, change, config)
    for layer, edit in layers.items():
        check_survivors(config, layer, edit)
    return RoutingEdit(layers) if layers else None


def _affected(change: Intervention, config: ModelConfig) -> tuple[int, ...]:
    layer = None if isinstance(change, TopK) else change.layer
    if layer is None:
        return config.moe_layers
    if layer not in config.moe_layers:
        first, last = config.moe_layers[0], config.moe_layers[-1]
        raise RequestError(f"layer {layer} has no router; mixture layers are {first} to {last}")
    return (layer,)


def _apply(edit: LayerEdit, change: Intervention, config: ModelConfig) -> LayerEdit:
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


def _mark(mask_E: torch.Tensor, expert: int) -> torch.Tensor:
    if not 0 <= expert < len(mask_E):
        raise RequestError(f"expert {expert} does not exist; experts are 0 to {len(mask_E) - 1}")
    marked_E = mask_E.clone()
    marked_E[expert] = True
    return marked_E
