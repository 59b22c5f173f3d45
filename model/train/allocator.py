"""The memory allocator of a training run."""

import ctypes
import sys


def keep_freed_memory() -> None:
    """Make glibc's allocator keep large freed blocks for the next step; do nothing on other systems.

    By default, glibc returns freed blocks to the system, and the system fills them with zeros at the next step. On a
    machine with slow page faults, this takes half of a step's time.
    """
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    for option, value in ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 2**28)):
        libc.mallopt(option, value)
