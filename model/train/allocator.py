"""The memory allocator of a training run."""

import ctypes
import sys


def keep_freed_memory() -> None:
    """Make glibc's allocator keep large freed blocks for the next step; does nothing on other systems.

    By default it returns them to the system, which zeroes them again at the next step. That takes half of a step's time
    where page faults are slow.
    """
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    for option, value in ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 2**28)):
        libc.mallopt(option, value)
