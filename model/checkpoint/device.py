"""The choice of the device that holds a model's weights."""

import torch

from model.checkpoint.memory import fits_gpu


class DeviceError(ValueError):
    """This machine lacks the device."""


def choose_device(device: str, needed: int = 0, for_training: bool = False) -> torch.device:
    """Return the named device. "auto" stands for CUDA if it has `needed` bytes free, else for MPS, else for the CPU.

    If `for_training` is set, "auto" never stands for MPS, because training has not been tried on MPS, and it stands for
    CUDA without a check of the memory.

    Raises:
        DeviceError: this machine lacks the named device.
    """
    if device != "auto":
        try:
            return torch.empty(0, device=device).device
        except (RuntimeError, AssertionError):
            raise DeviceError(f"there is no device {device!r} here; use 'auto' or 'cpu'") from None
    if torch.cuda.is_available() and (for_training or fits_gpu(needed, torch.device("cuda"))):
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() and not for_training else "cpu")
