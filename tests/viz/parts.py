"""A token for tests of text as HTML."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A token: any object with these attributes."""

    id: int
    piece: str
    start: int
    end: int
    generated: bool = False
    special: bool = False
