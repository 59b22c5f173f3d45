"""Where a run computes."""

import torch

from model.checkpoint.memory import fits_gpu
from model.run.request import RequestError


def choose_device(device: str, needed: int = 0) -> torch.device:
    """Where weights of so many bytes go.

    `auto` is CUDA where there is one with room for them, then MPS, then the CPU; anything else is taken at its word.

    Raises:
        RequestError: there is no such device.
    """
    if device != "auto":
        try:
            return torch.empty(0, device=device).device
        except (RuntimeError, AssertionError):
            raise RequestError(f"there is no device {device!r} here; use 'auto' or 'cpu'") from None
    if torch.cuda.is_available() and fits_gpu(needed, gpu := torch.device("cuda")):
        return gpu
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
