"""How a training run keeps its memory."""

import ctypes
import sys


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
