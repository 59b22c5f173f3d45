"""The lock of transformers: one thread at a time builds or loads a model with it.

transformers replaces methods of its own classes while it loads. Two loads at once would put back each other's
replacements, and leave a class changed for good.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from model.checkpoint.header import CheckpointError
from model.families.stored import LoadingStopped

_SECONDS_BETWEEN_CHECKS = 0.2
_LOCK = threading.RLock()  # whoever loads a model reads its skeleton first


@contextlib.contextmanager
def turn(folder: Path, cancel: threading.Event | None = None, most_seconds: float | None = None) -> Iterator[None]:
    """Hold the lock of loading; a thread that holds it already continues at once.

    Args:
        folder: the folder to name in an error.
        cancel: once it is set, waiting ends.
        most_seconds: longest wait; None: without limit.

    Raises:
        LoadingStopped: `cancel` was set.
        CheckpointError: another model was still being loaded after `most_seconds`.
    """
    begin = time.monotonic()
    while not _LOCK.acquire(timeout=_SECONDS_BETWEEN_CHECKS):
        if cancel is not None and cancel.is_set():
            raise LoadingStopped(f"loading {folder} was stopped before its turn")
        if most_seconds is not None and time.monotonic() - begin > most_seconds:
            raise CheckpointError(f"{folder} is not read while another model is being loaded; try again when it is")
    try:
        yield
    finally:
        _LOCK.release()
