"""Files that are written whole or not at all: under another name first, which then takes the file's place."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name to write to, which takes the file's place when all has gone well; else nothing is left of it.

    Raises:
        OSError: it cannot be written, as on a full disk; also where the safetensors library has an error of its own.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except SafetensorError as error:
        said = re.search(r"os error (\d+)", str(error))
        code = int(said[1]) if said else errno.EIO
        raise OSError(code, os.strerror(code), str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)
