"""The header of a safetensors file, and JSON files, read without trusting them.

A safetensors file is 8 bytes (the header's length, little-endian), the header (JSON: tensor -> dtype, shape, first and
end byte), then the data. Every size in the header is checked against the size of the file before anything is allocated.
Every problem raises a `CheckpointError`.
"""

import dataclasses
import json
import math
import re
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.trace.limits import SETTINGS, WEIGHT_LIST, JsonBounds, check_json
from model.trace.ordinary import read_ordinary

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
READABLE_DTYPES = ("F32", "F16", "BF16")
SCALED_DTYPE = "F8_E4M3"  # block FP8; decoded with its scales
SCALE_DTYPES = ("F32", "F8_E8M0")

LFS_POINTER = b"version https://git-lfs"  # begins the text that Git leaves in place of a large file

_BITS = {
    **{"BOOL": 8, "U8": 8, "I8": 8, "I16": 16, "U16": 16, "I32": 32, "U32": 32, "I64": 64, "U64": 64},
    **{"F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64},
    **{"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8},
    **{"F6_E2M3": 6, "F6_E3M2": 6, "F4": 4},
}
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_MAX_AXES = 16
_MAX_SIZE = 1 << 48
_MAX_MESSAGE = 500


class CheckpointError(ValueError):
    """A model folder cannot be used; the message names the problem and what to do, in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Return the text on one line of bounded length, with control characters as escapes."""
    line = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text[:_MAX_MESSAGE])
    return line if len(text) <= _MAX_MESSAGE else line + "..."


@dataclasses.dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor as the header of its file describes it; its data is not read."""

    name: str
    dtype: str  # safetensors' name, such as BF16
    shape: tuple[int, ...]
    file: Path
    num_bytes: int
    offset: int  # position of its first byte in the file


def read_json(path: Path, bounds: JsonBounds = SETTINGS) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        CheckpointError: the file cannot be read, is too large, not JSON, or not a JSON object.
    """
    try:
        return _parse_object(path, read_ordinary(path, bounds.num_bytes), bounds)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None


def _parse_object(path: Path, content: bytes, bounds: JsonBounds) -> dict[str, Any]:
    if content.startswith(LFS_POINTER):
        raise CheckpointError(f"{path} is {lfs_refusal()}")
    check_json(content, bounds, str(path), CheckpointError)
    try:
        value = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_without_duplicates)
        if _SURROGATE.search(content):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise CheckpointError(f"{path} holds half of a surrogate pair, which is not valid Unicode") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not usable JSON ({first_line(error)})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key occurs twice")
    return value


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of one safetensors file by name, from its header, which is checked against the file's size.

    Raises:
        CheckpointError: the file is no safetensors file, is truncated, or its header contradicts itself.
    """
    try:
        header, start, data_size = _read_start(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    header.pop("__metadata__", None)
    spans = [_check_entry(path, name, entry, data_size) for name, entry in header.items()]
    _check_tiling(path, sorted(spans, key=lambda span: span[1:]), data_size)
    return {name: _stored(path, name, entry, start) for name, entry in header.items()}


def _read_start(path: Path) -> tuple[dict[str, Any], int, int]:
    """Return the header, the position of the first byte of data, and the number of bytes of data."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # a pipe would block
        raise CheckpointError(f"{path} is not an ordinary file")
    file_size = status.st_size
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise CheckpointError(f"{path} is no safetensors file: it has only {file_size} bytes")
        (length,) = struct.unpack("<Q", start)
        if length > min(file_size - 8, WEIGHT_LIST.num_bytes):
            raise CheckpointError(_bad_length(path, start, length, file_size))
        return _parse_object(path, file.read(length), WEIGHT_LIST), 8 + length, file_size - 8 - length


def _bad_length(path: Path, start: bytes, length: int, file_size: int) -> str:
    if start[:1] == b"\x80" or start[:2] == b"PK":
        return f"{path} is {pickle_refusal('in spite of its name')}"
    if LFS_POINTER.startswith(start):
        return f"{path} is {lfs_refusal()}"
    if start.startswith(b"GGUF"):
        return f"{path} is a GGUF file of llama.cpp in spite of its name; take the model that it was converted from"
    if start.startswith(b"<"):
        return f"{path} is a web page, not the weights; download it again"
    return f"{path} is truncated or no safetensors file: its header claims {length} bytes, the file has {file_size}"


def _check_entry(path: Path, name: str, entry: object, data_size: int) -> tuple[str, int, int]:
    """Return name, first byte and end byte of one tensor, after the checks that concern this tensor alone."""
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise CheckpointError(f"{path}: the header's entry for {name} is incomplete")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in _BITS:
        raise CheckpointError(f"{path}: {name} has the unknown dtype {entry['dtype']!r}")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise CheckpointError(f"{path}: {name} has an unusable shape or position in the header")
    start, end = offsets
    if not start <= end <= data_size:
        raise CheckpointError(f"{path}: {name} ends at byte {end} of {data_size}; the file is truncated or damaged")
    if math.prod(shape) * _BITS[entry["dtype"]] != (end - start) * 8:
        raise CheckpointError(f"{path}: {name} of shape {shape} does not fill the {end - start} bytes it claims")
    return name, start, end


def _are_sizes(values: object) -> bool:
    if not isinstance(values, list) or len(values) > _MAX_AXES:
        return False
    return all(type(value) is int and 0 <= value <= _MAX_SIZE for value in values)


def _check_tiling(path: Path, spans: list[tuple[str, int, int]], data_size: int) -> None:
    """Raise an error if tensors overlap or leave a gap, because the format forbids both."""
    position = 0
    for name, start, end in spans:
        if start != position:
            raise CheckpointError(f"{path}: {name} starts at byte {start}, not at {position}; the file is damaged")
        position = end
    if position != data_size:
        raise CheckpointError(f"{path}: {data_size - position} bytes belong to no tensor; the file is damaged")


def _stored(path: Path, name: str, entry: Mapping[str, Any], data_start: int) -> StoredTensor:
    start, end = entry["data_offsets"]
    return StoredTensor(name, entry["dtype"], tuple(entry["shape"]), path, end - start, data_start + start)


def unsupported_dtype(stored: StoredTensor) -> str:
    """Return the message for a dtype that cannot be read, in one line."""
    supported = f"only {', '.join(READABLE_DTYPES)} and, in blocks with scales, {SCALED_DTYPE} are read"
    return f"{stored.file.name}: tensor {stored.name} is stored as {stored.dtype}; {supported}"


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or the name of its class."""
    return str(error).partition("\n")[0] or type(error).__name__


def lfs_refusal() -> str:
    """Return the part of an error that says that a file is a pointer of Git LFS, and what to do."""
    return "a pointer of Git LFS, not the file itself; run `git lfs pull` in the folder"


def pickle_refusal(file_name: str) -> str:
    """Return the part of an error that says why a pickled file is not opened, and what to do."""
    return f"{file_name}, a pickled file, which could run code when read; convert the weights to safetensors"
