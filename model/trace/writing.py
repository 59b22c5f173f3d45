"""Write files completely or not at all: a file is written under a temporary name and then renamed."""

import contextlib
import errno
import math
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path; rename it to `path` on success, delete it on error.

    Raises:
        OSError: the file cannot be written, as on a full disk; the message names `path`. An error of the safetensors
        library is raised as OSError too.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except SafetensorError as error:
        match = re.search(r"os error (\d+)", str(error))
        code = int(match[1]) if match else errno.EIO
        raise OSError(code, os.strerror(code), str(path)) from None
    except OSError as error:  # the error of a failed write names no file, that of a failed rename the temporary file
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def strict(value: Any) -> Any:
    """Return JSON values with NaN and infinities replaced by text, because JSON has no numbers for them.

    >>> strict({"weight": [float("nan"), 1.5]})
    {'weight': ['nan', 1.5]}
    """
    if isinstance(value, dict):
        return {str(key): strict(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [strict(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
