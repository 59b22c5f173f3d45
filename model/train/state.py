"""A training run on disk: weights, optimiser moments and step in one safetensors file, written whole or not at all.

Everything that the next step depends on is in it, so a run that was stopped and resumed equals one that was not, bit
for bit. The order of the data needs no state (data.py).
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from model.trace.writing import replacing

STATE = "state.safetensors"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq", "momentum")


class StateError(ValueError):
    """A saved training state that is missing, damaged or of another model."""


def save_state(folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer, meta: dict[str, Any]) -> Path:
    """Write the state under a temporary name, then rename it over the last one.

    Args:
        folder: of the run.
        model: all parameters and persistent buffers are saved as they are.
        optimiser: AdamW or Muon over the model's parameters.
        meta: JSON values; `step` is the number of steps done.

    Raises:
        OSError: it cannot be written, as on a full disk; the last state stays.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        moments = optimiser.state[parameter]
        tensors |= {f"{kind}.{name}": moments[kind] for kind in _MOMENTS if kind in moments}
    tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with replacing(folder / STATE) as temporary:
        save_file(tensors, temporary, {"meta": json.dumps(meta)})
    return folder / STATE


def load_state(folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Fill model and optimiser from `folder` and return the meta values.

    Raises:
        StateError: there is no state, it cannot be read, or it is of a model of another shape.
    """
    try:
        with safe_open(folder / STATE, "pt") as file:
            meta = json.loads((file.metadata() or {})["meta"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise StateError(f"{folder / STATE} cannot be resumed: {error}") from error
    for name, parameter in model.named_parameters():
        moments = {kind: tensors[f"{kind}.{name}"] for kind in _MOMENTS if f"{kind}.{name}" in tensors}
        optimiser.state.pop(parameter, None)  # of a state before the first step there are none
        if moments:
            optimiser.state[parameter] = {kind: tensor.to(parameter.device) for kind, tensor in moments.items()}
    return meta
