"""The temporary folders in which weights wait that do not fit in memory.

A folder is named after the machine and the process that owns it. A process that is killed cannot delete its folder, so
the next one that needs the disk does.
"""

import os
import platform
import re
import shutil
import tempfile
from pathlib import Path

_PREFIX = "moe-loupe-"


def make_folder() -> str:
    """Return a new folder of this process in the temporary folder; those of dead processes are deleted first."""
    _delete_unowned(Path(tempfile.gettempdir()))
    return tempfile.mkdtemp(prefix=f"{_PREFIX}{_machine()}-{os.getpid()}-")


def _delete_unowned(parent: Path) -> None:
    owned = re.compile(rf"{_PREFIX}{_machine()}-(\d{{1,9}})-\w+")
    for folder in parent.glob(f"{_PREFIX}*"):
        match = owned.fullmatch(folder.name)
        if match and not folder.is_symlink() and not _is_running(int(match[1])):
            shutil.rmtree(folder, ignore_errors=True)


def _machine() -> str:
    """Return this machine's name: containers may share a temporary folder, but not their process numbers."""
    return re.sub(r"\W", "_", platform.node())


def _is_running(process: int) -> bool:
    if os.name != "posix":  # there, a signal 0 would end the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
