"""The sweeps that can be opened by name: those that come with the project, and those that the operator allows."""

import functools
import os
from pathlib import Path

from model.atlas.errors import AtlasError
from model.atlas.folder import Sweep, open_sweep
from model.atlas.manifest import Manifest
from model.atlas.schema import MANIFEST

VARIABLE = "MOE_LOUPE_SWEEPS"
SHIPPED = Path(__file__).parent.parent / "presets" / "atlas"
MOST_OPEN = 8


def available() -> dict[str, Path]:
    """Return folders by name: the sweeps that come with the project, then those that `MOE_LOUPE_SWEEPS` allows.

    An allowed folder is a sweep or holds sweeps. A second folder of the same name is listed by its path.
    """
    allowed = [Path(part) for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    named: dict[str, Path] = {}
    for folder in [sweep for parent in (SHIPPED, *allowed) for sweep in _sweeps_in(parent)]:
        named.setdefault(folder.name if folder.name not in named else str(folder), folder)
    return named


def _sweeps_in(folder: Path) -> list[Path]:
    if (folder / MANIFEST).is_file():
        return [folder]
    return sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))


def opened(name: str) -> Sweep:
    """Return the sweep of a name in `available`, the same object until its manifest changes.

    Raises:
        AtlasError: no sweep has this name, the folder holds no finished sweep, or its tables are damaged. The message
            has the name in place of the folder's path.
    """
    folder = available().get(name)
    if folder is None:
        raise AtlasError(f"no sweep is called {name!r}")
    try:
        manifest = Manifest.read(folder)
        return _opened(folder, manifest.hash, repr(manifest.times))
    except AtlasError as error:
        raise AtlasError(str(error).replace(str(folder), name)) from error


@functools.lru_cache(MOST_OPEN)
def _opened(folder: Path, manifest_hash: str, times: str) -> Sweep:
    """Return an opened sweep; hash and times are part of the key, so a folder that was written anew is opened anew."""
    return open_sweep(folder)
