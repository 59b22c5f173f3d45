"""The models that come with the project, by name."""

import os
from pathlib import Path

PRESETS = Path(__file__).parent.parent / "presets"


def find_model(model: str | Path) -> Path:
    """The folder of an embedded model's name, or the folder itself."""
    embedded = PRESETS / str(model)
    is_name = isinstance(model, str) and os.sep not in model and (embedded / "config.json").is_file()
    return embedded if is_name else Path(model)


def embedded_models() -> list[str]:
    """Names of the models that come with the project."""
    return sorted(path.parent.name for path in PRESETS.glob("*/config.json"))


def released_configs() -> dict[str, Path]:
    """Configurations of released models that come with the project, by name."""
    return {path.stem: path for path in sorted((PRESETS / "configs").glob("*.json"), key=lambda path: path.stem)}
