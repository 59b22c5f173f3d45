"""DeepSeek's generations side by side: a row per property, with a cell per model and the sources."""

import dataclasses
import functools
import tomllib
from pathlib import Path

TEXT = Path(__file__).parent / "generations.toml"


@dataclasses.dataclass(frozen=True)
class Row:
    """A property of the models.

    Attributes:
        name: name of the property.
        cells: text for each of `models()`.
        references: key of each source in `claims.toml`, and the place in it.
    """

    name: str
    cells: tuple[str, ...]
    references: tuple[tuple[str, str], ...]


@functools.cache
def models() -> tuple[str, ...]:
    """Return the names of the models, the oldest first."""
    return tuple(tomllib.loads(TEXT.read_text(encoding="utf-8"))["models"])


@functools.cache
def rows() -> dict[str, Row]:
    """Return all rows by their keys, in the order of the page."""
    return {
        key: Row(row["name"], tuple(row["cells"]), tuple((each["in"], each["at"]) for each in row["references"]))
        for key, row in tomllib.loads(TEXT.read_text(encoding="utf-8"))["rows"].items()
    }
