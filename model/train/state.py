"""The saved state of a run: weights, optimiser moments and step in one safetensors file, written atomically.

The state holds everything that the next step depends on, so a resumed run equals an uninterrupted run bit for bit. The
data need no state, because each batch depends only on the seed and the step (data/batches.py).
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import nn

from model.trace.writing import replacing

STATE = "state.safetensors"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq", "momentum")


class StateError(ValueError):
    """A training state is missing, damaged, or belongs to another model."""


def save_state(folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer, meta: dict[str, Any]) -> Path:
    """Write the state in place of the previous state, and return its path.

    Args:
        folder: the folder of the run.
        model: the model, whose parameters and persistent buffers are saved.
        optimiser: AdamW or Muon over the model's parameters.
        meta: JSON values; `step` is the number of steps done.

    Raises:
        OSError: the file cannot be written, for example on a full disk; the previous state stays.
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
    """Load the state into model and optimiser, and return the `meta` values of `save_state`.

    Raises:
        StateError: the state is missing or unreadable, or its model has another shape.
    """
    try:
        content = (folder / STATE).read_bytes()  # not mapped: a mapped file that is truncated would end the process
        meta, tensors = json.loads(_metadata(content)["meta"]), load(content)
        model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise StateError(f"{folder / STATE} cannot be resumed: {error}") from error
    for name, parameter in model.named_parameters():
        moments = {kind: tensors[f"{kind}.{name}"] for kind in _MOMENTS if f"{kind}.{name}" in tensors}
        optimiser.state.pop(parameter, None)  # a state from before the first step has no moments
        if moments:
            optimiser.state[parameter] = {kind: tensor.to(parameter.device) for kind, tensor in moments.items()}
    return meta


def _metadata(content: bytes) -> dict[str, str]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length])["__metadata__"]
