"""Read untrusted files. Only regular files of limited size are read: a pipe might block forever."""

import errno
import os
import stat
from pathlib import Path

_NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def read_ordinary(path: Path | str, most_bytes: int) -> bytes:
    """Return the content of a regular file.

    Raises:
        OSError: the file cannot be read, is no regular file, or is larger than `most_bytes`; `strerror` says why.
    """
    descriptor = os.open(path, os.O_RDONLY | _NO_WAIT)  # without waiting: a pipe without a writer blocks here
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not an ordinary file", str(path))
        if status.st_size > most_bytes:
            raise _too_large(path, most_bytes)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(status.st_size + 1)  # it may grow in the meantime
    finally:
        os.close(descriptor)
    if len(content) > status.st_size:
        raise OSError(errno.EAGAIN, "it grew while it was read; try again", str(path))
    return content


def _too_large(path: Path | str, most_bytes: int) -> OSError:
    size = f"{most_bytes / 1e6:,.0f} MB" if most_bytes >= 1_000_000 else f"{most_bytes:,} bytes"
    return OSError(errno.EFBIG, f"it is larger than the {size} that are read", str(path))
