"""How much memory there is for weights: in this machine, and on its GPU."""

import os

import torch


def memory_bytes() -> int | None:
    """Main memory of this machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not on Windows
        return None


def free_bytes(gpu: torch.device) -> int:
    """Memory of a CUDA device that no program uses; what torch keeps for later counts, since it gives it to us."""
    free, _ = torch.cuda.mem_get_info(gpu)
    return free + torch.cuda.memory_reserved(gpu) - torch.cuda.memory_allocated(gpu)


def fits_gpu(needed: int, gpu: torch.device) -> bool:
    """Whether weights of so many bytes leave a tenth of what is free for the cache and what is computed."""
    return needed <= 0.9 * free_bytes(gpu)
