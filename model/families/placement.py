"""Where the weights of a model go: one device, several GPUs, or partly the disk.

Weights that do not fit in memory are written to a temporary folder in the form that the model computes with, because
accelerate reads them from there in every forward pass. The folder is deleted with the model.
"""

import dataclasses
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import infer_auto_device_map
from torch import nn

from model.checkpoint.header import CheckpointError
from model.checkpoint.memory import available_bytes, free_bytes

_GPU_SHARE = 0.9  # of a GPU's free memory; the rest is for the cache and activations
DISK = "disk"


@dataclasses.dataclass(frozen=True, slots=True)
class Placement:
    """The device of each module."""

    device_map: Mapping[str, str | int | torch.device]  # module path -> device; "" stands for the whole model
    num_bytes: int  # of all weights in memory
    disk_bytes: int  # of the weights that wait on the disk

    @property
    def offloaded(self) -> bool:
        """Whether weights are moved to their device during a pass, so that one run at a time is possible."""
        return self.disk_bytes > 0 or len(set(map(str, self.device_map.values()))) > 1


def place(model: nn.Module, device: torch.device, limit_bytes: int | None = None) -> Placement:
    """Return the placement of a model, judged by its parameters, which may be on the meta device.

    Args:
        model: the model.
        device: "cpu", or "cuda" for all GPUs of this machine, or one GPU.
        limit_bytes: memory that the weights may take on `device`; None: what is free.

    Raises:
        CheckpointError: the disk lacks room for the weights that do not fit in memory.
    """
    total = sum(size for _, size in _sizes(model))
    room = _room(device, limit_bytes)
    for name, free in room.items():
        if total + _scratch(model) <= free:
            return Placement({"": torch.device("cuda", name) if isinstance(name, int) else device}, total, 0)
    if device.type == "cuda":
        room["cpu"] = available_bytes() or 0
    kept_whole = sorted(getattr(model, "_no_split_modules", None) or [])
    limits: Any = {name: max(0, free - _scratch(model)) for name, free in room.items()}
    device_map = infer_auto_device_map(model, max_memory=limits, no_split_module_classes=kept_whole)
    waiting = [path for path, where in device_map.items() if where == DISK]
    on_disk = sum(size for name, size in _sizes(model) if any(_is_within(name, path) for path in waiting))
    _check_disk(total, on_disk, Path(tempfile.gettempdir()))
    return Placement(dict(device_map), total, on_disk)


def _is_within(name: str, path: str) -> bool:
    return path == "" or name == path or name.startswith(f"{path}.")


def _room(device: torch.device, limit_bytes: int | None) -> dict[int | str, int]:
    """Return the bytes that weights may take, by GPU number, or on "cpu"."""
    if device.type != "cuda":
        free = available_bytes()
        return {"cpu": limit_bytes if limit_bytes is not None else free if free is not None else 1 << 62}
    numbers = range(torch.cuda.device_count()) if device.index is None else [device.index]
    free = {number: int(_GPU_SHARE * free_bytes(torch.device("cuda", number))) for number in numbers}
    return {number: size if limit_bytes is None else min(size, limit_bytes) for number, size in free.items()}


def _scratch(model: nn.Module) -> int:
    """Return the bytes that loading needs besides the weights: the stored parts of the largest parameter."""
    return max((size for _, size in _sizes(model)), default=0)


def _sizes(model: nn.Module) -> list[tuple[str, int]]:
    """Return name and bytes of every parameter; tied ones count once."""
    return [(name, tensor.numel() * tensor.itemsize) for name, tensor in model.named_parameters()]


def _check_disk(total: int, on_disk: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if on_disk > free:
        raise CheckpointError(
            f"the weights need {total / 1e9:,.1f} GB, more than fits in memory, and {folder} has {free / 1e9:,.1f} GB "
            f"free for the {on_disk / 1e9:,.1f} GB that would wait there; free space, or set TMPDIR to a larger disk"
        )
