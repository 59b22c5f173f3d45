"""Features of a text for the curation steps, each computed once: lines, letters, units, and hashes of runs of units.

A unit is a word, or one character of a script written without spaces between words (Chinese, Japanese, Korean, Thai).
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
    """A text with its features."""

    def __init__(self, text: str, is_code: bool = False) -> None:
        self.text, self.is_code = text, is_code

    @classmethod
    def of(cls, record: Record) -> "Text":
        """Return the text of a record; the text counts as code if the domain of the record is `code`."""
        return cls(record.text, record.domain == "code")

    @functools.cached_property
    def lines(self) -> list[str]:
        """Lines that are not blank, without white space at their ends."""
        return [stripped for line in self.text.split("\n") if (stripped := line.strip())]

    @functools.cached_property
    def solid(self) -> int:
        """Number of characters that are not white space."""
        return sum(map(len, self.text.split()))

    @functools.cached_property
    def letters(self) -> int:
        """Number of letters, without combining marks."""
        return len(self.text) - sum(map(len, _OTHERS.findall(self.text)))

    @functools.cached_property
    def units(self) -> list[str]:
        """The units of the text in order, in lower case."""
        return _UNIT.findall(self.text.lower())

    @functools.cached_property
    def unit_numbers(self) -> np.ndarray:
        """Checksum of each unit, [unit], 32 bits in uint64; the same on every machine."""
        return np.array([_checksum(unit) for unit in self.units], np.uint64)

    def runs(self, length: int) -> np.ndarray:
        """Return a 64-bit hash of each run of `length` units, [run], uint64; empty if the text has fewer units."""
        units = self.unit_numbers
        number = len(units) - length + 1
        if number <= 0:
            return np.empty(0, np.uint64)
        total = np.zeros(number, np.uint64)
        for offset in range(length):
            total = (total ^ units[offset : offset + number]) * _MULTIPLIER
            total ^= total >> np.uint64(29)
        return total


@functools.lru_cache(200_000)
def _checksum(unit: str) -> int:
    return zlib.crc32(unit.encode("utf-8", "surrogatepass"))
