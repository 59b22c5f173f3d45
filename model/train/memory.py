"""Where a run computes, and how it keeps its memory."""

import ctypes
import sys

import torch

from model.train.config import TrainConfigError


def keep_freed_memory() -> None:
    """Tell glibc's allocator to keep large freed blocks for the next step.

    By default it returns them to the system, which fills them with zeros again at the next step: half of a step's time
    where page faults are slow. Elsewhere than on Linux nothing is changed.
    """
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    for option, value in ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 2**28)):
        libc.mallopt(option, value)


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA when there is one, else the CPU; anything else is taken at its word.

    Raises:
        TrainConfigError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError):
        raise TrainConfigError(f"there is no device {name!r} here; use 'auto' or 'cpu'") from None
