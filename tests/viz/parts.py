"""A token as pictures of text take it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """Any object with these attributes is one."""

    id: int
    piece: str
    start: int
    end: int
    generated: bool = False
    special: bool = False
