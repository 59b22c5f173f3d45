"""Where the weights of a model go: one device, several devices layer by layer, or partly the disk.

Layers stay whole, and are placed in their order; all other modules stay on the first device. Layers that fit nowhere
are written to a temporary folder in the form that the model computes with, and read from there in every pass.
"""

import dataclasses
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from model.checkpoint.header import CheckpointError
from model.checkpoint.memory import available_bytes, free_bytes

_GPU_SHARE = 0.9  # of a GPU's free memory; the rest is for the cache and activations
DISK = "disk"


@dataclasses.dataclass(frozen=True, slots=True)
class Placement:
    """The device of each module."""

    device_map: Mapping[str, str]  # module path -> device or "disk"; "" stands for the whole model
    num_bytes: int  # of all weights
    disk_bytes: int  # of the weights that wait on the disk

    @property
    def offloaded(self) -> bool:
        """Whether weights or states move between devices during a pass, so that one run at a time is possible."""
        return len(set(self.device_map.values())) > 1


def place(model: nn.Module, layers: Sequence[str], device: torch.device, limit_bytes: int | None = None) -> Placement:
    """Return the placement of a model, judged by its parameters, which may be on the meta device.

    Args:
        model: the model.
        layers: paths of its layers, in order.
        device: "cpu", or "cuda" for all GPUs of this machine, or one GPU.
        limit_bytes: memory that the weights may take on `device`; None: what is free.

    Raises:
        CheckpointError: the modules outside the layers do not fit on the first device, or the disk lacks room.
    """
    total = size_of(model)
    scratch = max((weight.numel() * weight.itemsize for weight in model.parameters()), default=0)
    rooms = [(target, room - scratch) for target, room in _rooms(device, limit_bytes)]  # loading stacks stored parts
    for target, room in rooms:
        if total <= room:
            return Placement({"": target}, total, 0)
    if device.type == "cuda":
        rooms.append(("cpu", (available_bytes() or 0) - scratch))
    first, room = rooms[0]
    sizes = {path: size_of(model.get_submodule(path)) for path in layers}
    outside = total - sum(sizes.values())
    if outside > room:
        raise CheckpointError(
            f"{_size(outside)} of the weights lie outside the layers and must be in memory, and "
            f"{_size(max(0, room))} fit; free memory, or use a narrower dtype"
        )
    rooms[0] = (first, room - outside)
    targets = _in_order(sizes, rooms)
    on_disk = sum(size for path, size in sizes.items() if targets[path] == DISK)
    _check_disk(total, on_disk, Path(tempfile.gettempdir()))
    return Placement(dict(_cover(model, "", targets, first)), total, on_disk)


def size_of(module: nn.Module) -> int:
    """Return the bytes of a module's parameters; shared ones count once."""
    return sum(weight.numel() * weight.itemsize for weight in module.parameters())


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"


def _rooms(device: torch.device, limit_bytes: int | None) -> list[tuple[str, int]]:
    """Return the devices in the order in which they are filled, and the bytes that weights may take on each."""
    if device.type != "cuda":
        free = available_bytes() if limit_bytes is None else limit_bytes
        return [(str(device), 1 << 62 if free is None else free)]
    numbers = range(torch.cuda.device_count()) if device.index is None else [device.index]
    gpus = [torch.device("cuda", number) for number in numbers]
    most = math.inf if limit_bytes is None else limit_bytes
    return [(str(gpu), int(min(most, _GPU_SHARE * free_bytes(gpu)))) for gpu in gpus]


def _in_order(sizes: Mapping[str, int], rooms: list[tuple[str, int]]) -> dict[str, str]:
    """Return the device of each layer: a device is filled before the next, and the disk takes the rest."""
    targets: dict[str, str] = {}
    waiting = list(rooms)
    left = waiting[0][1]
    for path, size in sizes.items():
        while waiting and size > left:
            waiting.pop(0)
            left = waiting[0][1] if waiting else 0
        targets[path] = waiting[0][0] if waiting else DISK
        left -= size
    return targets


def _cover(module: nn.Module, path: str, targets: Mapping[str, str], first: str) -> Iterator[tuple[str, str]]:
    """Yield the fewest modules, with their devices, that cover all parameters and buffers."""
    prefix = f"{path}." if path else ""
    if path in targets or not any(layer.startswith(prefix) for layer in targets):
        yield path, targets.get(path, first)
        return
    for name, child in module.named_children():
        yield from _cover(child, prefix + name, targets, first)
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    yield from ((prefix + name, first) for name, _ in own)


def _check_disk(total: int, on_disk: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if on_disk > free:
        raise CheckpointError(
            f"the weights need {total / 1e9:,.1f} GB, more than fits in memory, and {folder} has {free / 1e9:,.1f} GB "
            f"free for the {on_disk / 1e9:,.1f} GB that would wait there; free space, or set TMPDIR to a larger disk"
        )
