"""What the steps look at in a text, each computed once: its lines, its units, and numbers for runs of units.

A unit is a word, or one character of Chinese, Japanese, Korean or Thai, which are written without spaces between words.
"""

import functools
import re
import zlib

import numpy as np

from model.train.data.corpus import Record

_UNIT = re.compile(
    r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u0e00-\u0e7f\u3040-\u9fff\uac00-\ud7af]+"
)
_OTHERS = re.compile(r"[\W\d_]+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class Text:
    """A text and what was found in it so far."""

    def __init__(self, text: str, is_code: bool = False) -> None:
        self.text, self.is_code = text, is_code

    @classmethod
    def of(cls, record: Record) -> "Text":
        """The text of a record; the domain `code` is code."""
        return cls(record.text, record.domain == "code")

    @functools.cached_property
    def lines(self) -> list[str]:
        """Lines that are not blank, without the white space round them."""
        return [stripped for line in self.text.split("\n") if (stripped := line.strip())]

    @functools.cached_property
    def solid(self) -> int:
        """Characters that are not white space."""
        return sum(map(len, self.text.split()))

    @functools.cached_property
    def letters(self) -> int:
        """Letters, without combining marks."""
        return len(self.text) - sum(map(len, _OTHERS.findall(self.text)))

    @functools.cached_property
    def units(self) -> list[str]:
        """Words and characters in order, in lower case."""
        return _UNIT.findall(self.text.lower())

    @functools.cached_property
    def unit_numbers(self) -> np.ndarray:
        """A 32-bit checksum of each unit, the same on every machine, uint64."""
        return np.array([_checksum(unit) for unit in self.units], np.uint64)

    def runs(self, length: int) -> np.ndarray:
        """A 64-bit number for each run of so many units, uint64; empty where the text has fewer."""
        units = self.unit_numbers
        number = len(units) - length + 1
        if number <= 0:
            return np.empty(0, np.uint64)
        total = np.zeros(number, np.uint64)
        for place in range(length):
            total = (total ^ units[place : place + number]) * _MULTIPLIER
            total ^= total >> np.uint64(29)
        return total


@functools.lru_cache(200_000)
def _checksum(unit: str) -> int:
    return zlib.crc32(unit.encode("utf-8", "surrogatepass"))
