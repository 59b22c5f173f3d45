"""The counts of experts in an importance matrix of llama.cpp, as GGUF.

`llama-imatrix` counts, for each tensor that holds a layer's experts, how many tokens each expert multiplied:
`blk.N.ffn_gate_exps.weight.counts` and the same of `up` and `down`, F32 [1, expert]. Each token that selects an expert
passes all of them, so their counts agree. The legacy format .dat keeps no counts of experts.

Source: `tools/imatrix/imatrix.cpp` of llama.cpp at commit 006e7ef; the layout of GGUF from ggml's docs/gguf.md.
"""

import io
import re
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from model.trace import limits
from model.trace.imports.building import Named
from model.trace.imports.counts import Counts, counted
from model.trace.trace import TraceError

MAGIC = b"GGUF"
LEGACY = (
    "this is an importance matrix in llama.cpp's legacy format .dat, which keeps no counts of experts; compute it "
    "again with llama-imatrix --output-format gguf"
)
_COUNTS = re.compile(r"blk\.(\d{1,4})\.ffn_(\w+)_exps\.weight\.counts")
_EXACT = 1 << 24  # from here on, float32 does not hold every whole number
_F32, _STRING, _ARRAY = 0, 8, 9  # F32 is a type of tensors, the others are types of values
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_CUT = "the GGUF file is damaged or cut off"


def is_imatrix(content: bytes) -> bool:
    """Return whether the bytes look like an importance matrix as GGUF."""
    return content[:4] == MAGIC and b"imatrix.chunk_count" in content[: 1 << 20]


def is_legacy(content: bytes) -> bool:
    """Return whether the bytes look like an importance matrix in the legacy format."""
    length = int.from_bytes(content[4:8], "little")
    return 0 < length < 200 and content[8 : 8 + length].startswith((b"blk.", b"output")) and b"\0" in content[:8]


def read(file: BinaryIO, named: Named) -> Counts:
    """Return the counts of experts. Only the header and the counts of a file are read, which may have gigabytes.

    Raises:
        TraceError: the file is damaged, has no counts of experts, or its counts disagree or do not fit the model.
    """
    values, tensors = _parsed(file)
    if values.get("general.type") != "imatrix":
        raise TraceError("the GGUF file is not an importance matrix (general.type is not imatrix)")
    by_layer: dict[int, dict[str, np.ndarray]] = {}
    for name, counts in tensors.items():
        match = _COUNTS.fullmatch(name)
        if match is not None:
            by_layer.setdefault(int(match[1]), {})[match[2]] = _whole(counts, name)
    if not by_layer:
        raise TraceError("the importance matrix has no counts of experts (blk.N.ffn_gate_exps.weight.counts)")
    agreed = {layer: _agreed(layer, parts)[None] for layer, parts in by_layer.items()}
    if all((counts == counts[:, :1]).all() for counts in agreed.values()):
        raise TraceError(
            "the importance matrix has one count for all experts of a layer: it was converted from the legacy format, "
            "which keeps none; compute it again"
        )
    notes = [
        f"{_whole_value(values, 'imatrix.chunk_count')} chunks of {_whole_value(values, 'imatrix.chunk_size')} tokens"
    ]
    if max(counts.max() for counts in agreed.values()) >= _EXACT:
        notes.append(f"counts above {_EXACT:,} are rounded")
    return counted(agreed, named, "llama.cpp", "llama.cpp imatrix", notes)


def _agreed(layer: int, parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the counts [expert] that all tensors of a layer state."""
    first, *others = parts
    if not others:
        raise TraceError(f"L{layer} has counts of ffn_{first}_exps alone, so nothing confirms them")
    for other in others:
        if not np.array_equal(parts[first], parts[other]):
            raise TraceError(
                f"the counts of ffn_{first}_exps and ffn_{other}_exps differ in L{layer}; compute them again"
            )
    return parts[first]


def _whole(values: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(values).all() or (values != np.round(values)).any() or (values < 0).any():
        raise TraceError(f"{name:.80} must hold whole numbers of at least 0")
    return values.astype(np.int64)


def _whole_value(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    return f"{value:,}" if isinstance(value, int) else "an unknown number"


def _parsed(file: BinaryIO) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the values of a GGUF file, without arrays, and its counts of experts as float32 [expert] by tensor."""
    reader = _Reader(file)
    version = reader.number("I")
    if version not in (2, 3):
        raise TraceError(f"the GGUF file is of version {version}; 2 and 3 are known here")
    num_tensors, num_values = reader.number("Q"), reader.number("Q")
    limits.check_gguf(num_tensors, num_values)
    values = dict(reader.entry() for _ in range(num_values))
    described = [reader.tensor() for _ in range(num_tensors)]
    alignment = values.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= 1 << 16:
        raise TraceError(_CUT)
    start = -(-reader.at // alignment) * alignment
    tensors: dict[str, np.ndarray] = {}
    for name, sizes, kind, offset in described:
        if _COUNTS.fullmatch(name) is None:
            continue
        if name in tensors or kind != _F32 or len(sizes) != 2 or sizes[0] != 1 or sizes[1] > 1 << 15:
            raise TraceError(f"{name:.80} must stand once, as F32 [1, experts]")
        tensors[name] = np.frombuffer(reader.part(start + offset, 4 * sizes[1]), "<f4")
    return values, tensors


class _Reader:
    """Reads the header of a GGUF file; every size is checked against the file before it is used."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._size = file, file.seek(0, io.SEEK_END)
        self.at = len(MAGIC)

    def part(self, start: int, size: int) -> bytes:
        """Return `size` bytes from `start` on."""
        self._check(start, size)
        self._file.seek(start)
        content = self._file.read(size)
        if len(content) < size:
            raise TraceError(_CUT)
        return content

    def _check(self, start: int, size: int) -> None:
        if start + size > self._size:
            raise TraceError(_CUT)

    def number(self, form: str) -> Any:
        """Return the next number, in a format of `struct`."""
        size = struct.calcsize(f"<{form}")
        (value,) = struct.unpack(f"<{form}", self.part(self.at, size))
        self.at += size
        return value

    def text(self) -> str:
        """Return the next text."""
        size = self.number("Q")
        content = self.part(self.at, size)
        self.at += size
        return content.decode("utf-8", "replace")

    def entry(self) -> tuple[str, Any]:
        """Return the next key and its value; None for an array."""
        return self.text(), self._value(self.number("I"))

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.number(_known(kind))
        kind, length = self.number("I"), self.number("Q")
        if kind == _STRING:
            limits.check_gguf(length, 0)
            for _ in range(length):
                self.text()
        else:
            size = length * struct.calcsize(f"<{_known(kind)}")
            self._check(self.at, size)
            self.at += size
        return None

    def tensor(self) -> tuple[str, list[int], int, int]:
        """Return the next tensor's name, sizes, type and offset."""
        name, axes = self.text(), self.number("I")
        if axes > 8:
            raise TraceError(_CUT)
        return name, [self.number("Q") for _ in range(axes)], self.number("I"), self.number("Q")


def _known(kind: int) -> str:
    if kind not in _FORMATS:
        raise TraceError(_CUT)
    return _FORMATS[kind]
