"""The models and configurations that come with the project, by name. Pages need them, so torch is not imported."""

import functools
import os
import types
from collections.abc import Mapping
from pathlib import Path

PRESETS = Path(__file__).parent.parent / "presets"
CONFIGS = PRESETS / "configs"
RELEASED = {"deepseek-v3": "DeepSeek-V3", "deepseek-v3.2": "DeepSeek-V3.2"}  # name -> title; without weights
RELEASED_V4 = {"deepseek-v4-flash": "DeepSeek-V4-Flash", "deepseek-v4-pro": "DeepSeek-V4-Pro"}  # only described


def find_model(model: str | Path) -> Path:
    """Return the folder of an embedded model, if `model` is its name; else `model` as a path."""
    embedded = PRESETS / str(model)
    is_name = isinstance(model, str) and os.sep not in model and (embedded / "config.json").is_file()
    return embedded if is_name else Path(model)


def name_of(folder: Path) -> str:
    """Return the name of a model by its folder.

    The folder of a snapshot in a hub's cache is named by a hash, so its repository's name is returned.

    >>> name_of(Path("hub/models--Qwen--Qwen3-30B-A3B/snapshots/ae659f4"))
    'Qwen/Qwen3-30B-A3B'
    """
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/")
    return folder.name


def embedded_models() -> list[str]:
    """Return the names of the models that come with the project."""
    return sorted(path.parent.name for path in PRESETS.glob("*/config.json"))


def released_config(name: str) -> Path:
    """Return the config.json of a released model, one of `RELEASED` or `RELEASED_V4`."""
    return CONFIGS / f"{name}.json"


@functools.lru_cache(maxsize=2)  # a page asks ten times
def folders_by_name(presets: Path, allowed: str) -> Mapping[str, Path]:
    """Return model folders by name: those in the folder `presets`, then those that `allowed` lists.

    Args:
        presets: folder of the embedded models.
        allowed: paths, separated as in PATH.
    """
    named: dict[str, Path] = {}
    embedded = [path.parent for path in sorted(presets.glob("*/config.json"))]
    for folder in embedded + [Path(part) for part in allowed.split(os.pathsep) if part]:
        name = name_of(folder)
        named.setdefault(name if name not in named else str(folder), folder)
    return types.MappingProxyType(named)
