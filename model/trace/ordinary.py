"""Read untrusted files. Only regular files of limited size are read: a pipe might block forever."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def read_ordinary(path: Path | str, most_bytes: int) -> bytes:
    """Return the content of a regular file.

    Raises:
        OSError: the file cannot be read, is no regular file, or is larger than `most_bytes`; `strerror` says why.
    """
    with open_ordinary(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise _too_large(path, most_bytes)
        content = file.read(size + 1)  # it may grow in the meantime
    if len(content) > size:
        raise OSError(errno.EAGAIN, "it grew while it was read; try again", str(path))
    return content


def open_ordinary(path: Path | str) -> BinaryIO:
    """Return a regular file, opened to read bytes.

    Raises:
        OSError: the file cannot be opened, or is no regular file; `strerror` says why.
    """
    descriptor = os.open(path, os.O_RDONLY | _NO_WAIT)  # without waiting: a pipe without a writer blocks here
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not an ordinary file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _too_large(path: Path | str, most_bytes: int) -> OSError:
    size = f"{most_bytes / 1e6:,.0f} MB" if most_bytes >= 1_000_000 else f"{most_bytes:,} bytes"
    return OSError(errno.EFBIG, f"it is larger than the {size} that are read", str(path))
