"""Spreads a model's layers over the GPUs of one machine, with accelerate's placement and hooks.

Each layer is whole on one GPU; accelerate's hooks move tensors between layers, without changes to the network.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from model.checkpoint.weights import inspect, load_model, skeleton
from model.network.transformer import Transformer
from model.run.request import RequestError

WHOLE = ["Block", "MultiTokenPredictor"]  # classes of modules that are never split
Placement = Mapping[str, Any]  # name of a module -> its device


def load_sharded(folder: Path, dtype: torch.dtype) -> Transformer:
    """Return the model of a folder, with its layers spread over all GPUs of this machine.

    Raises:
        RequestError: there is no GPU, or the weights do not fit.
        CheckpointError: as for `load_model`.
    """
    if not torch.cuda.is_available():
        raise RequestError("there is no GPU to spread the layers over; leave out --shard")
    return load_placed(folder, _balanced(folder, dtype), dtype)


def load_placed(folder: Path, placement: Placement, dtype: torch.dtype) -> Transformer:
    """Return the model of a folder on the devices of a placement, with hooks that move tensors between devices."""
    from accelerate import dispatch_model  # slow to import, and most processes never need it

    model = load_model(folder, placement, dtype)
    dispatched: Any = dispatch_model(model, device_map=dict(placement), force_hooks=True)
    return dispatched


def _balanced(folder: Path, dtype: torch.dtype) -> Placement:
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory

    model = skeleton(inspect(folder).config, dtype)
    room = get_balanced_memory(model, no_split_module_classes=WHOLE, dtype=dtype) or {}
    room = {device: size for device, size in room.items() if device != "cpu"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about modules that do not fit, which are refused below
        placement = infer_auto_device_map(model, max_memory=room, no_split_module_classes=WHOLE, dtype=dtype)
    if {"cpu", "disk"} & set(map(str, placement.values())):
        raise RequestError("the weights do not fit on the GPUs of this machine; use --stream, or a narrower --dtype")
    return placement
