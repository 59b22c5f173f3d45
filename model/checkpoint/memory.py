"""The memory of this machine and of its GPU, to decide where weights fit."""

import os
from pathlib import Path

import torch


def memory_bytes() -> int | None:
    """Return the main memory of this machine in bytes; None if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not on Windows
        return None


def free_bytes(gpu: torch.device) -> int:
    """Return the free bytes of a CUDA device, including bytes that PyTorch has reserved and does not use."""
    free, _ = torch.cuda.mem_get_info(gpu)
    return free + torch.cuda.memory_reserved(gpu) - torch.cuda.memory_allocated(gpu)


def fits_gpu(needed: int, gpu: torch.device) -> bool:
    """Whether weights of `needed` bytes leave a tenth of the free memory for the cache and activations."""
    return needed <= 0.9 * free_bytes(gpu)


def available_bytes() -> int | None:
    """Return the bytes of main memory that are free or can be freed; None if the system does not report them."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # not on macOS and Windows
        return memory_bytes()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields["MemAvailable"].split()[0]) * 1024
