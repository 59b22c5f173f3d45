"""Read untrusted JSON, base64, .npy and safetensors; never a pickle.

The readers check every size against the number of bytes before they allocate memory. Every fault becomes a
`TraceError` of one line.
"""

import base64
import binascii
import io
import itertools
import json
import math
import warnings
from typing import Any, cast

import numpy as np
import safetensors

from model.trace import limits
from model.trace.trace import TraceError

NPY = b"\x93NUMPY"
_FLOATS = {"F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_LARGEST_ID = np.iinfo(np.int16).max


def parse_json(content: bytes, what: str = "the file") -> Any:  # noqa: ANN401 - whatever JSON holds
    """Return a parsed JSON document; `what` names it in the error.

    Raises:
        TraceError: the content is no JSON, is too large, is cut off, holds several documents, or is nested too deeply.
    """
    limits.check_json(content, limits.ANSWER, what)
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise TraceError(f"{what} is not UTF-8 text (byte {error.start})") from None
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            raise TraceError(
                f"{what} is not whole JSON: another value begins in line {error.lineno}; save one answer to a file"
            ) from None
        raise TraceError(f"{what} is not whole JSON (line {error.lineno}, column {error.colno})") from None
    except (ValueError, RecursionError, MemoryError):
        raise TraceError(f"{what} is JSON that is nested too deeply, or holds an absurd number") from None


def member(value: Any, name: str, kind: type, what: str) -> Any:  # noqa: ANN401 - a value of `kind`, or None
    """Return an entry of a JSON object; None if it is missing or null. `what` names the object in the error."""
    entry = value.get(name) if isinstance(value, dict) else None
    if entry is None:
        return None
    if not isinstance(entry, kind) or (kind is int and isinstance(entry, bool)):
        raise TraceError(f"{name} of {what} must be a {_KINDS[kind]}, not {type(entry).__name__}")
    return plain_text(entry, name) if kind is str else entry


_KINDS = {str: "text", int: "whole number", list: "list", dict: "JSON object"}


def plain_text(value: str, name: str) -> str:
    """Return the text; refuse half a surrogate pair, which JSON allows but pages cannot encode."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise TraceError(f"{name} holds half of a surrogate pair, which is not valid Unicode") from None
    return value


def number_of(value: Any, name: str, what: str) -> int | None:
    """Return a number of tokens from a JSON object; None if it is missing."""
    number = member(value, name, int, what)
    if number is not None and not 0 <= number <= limits.MOST_TOKENS:
        raise TraceError(f"{name} of {what} is {number:.20g}; a number of tokens is from 0 to {limits.MOST_TOKENS:,}")
    return number


def token_ids(value: Any, name: str) -> list[int] | None:
    """Return a list of token ids after checks; None stays None."""
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(entry) is int and 0 <= entry < 1 << 31 for entry in value):
        raise TraceError(f"{name} must be a list of token ids")
    return value


def from_lists(value: Any, name: str) -> np.ndarray:
    """Return the expert ids in nested lists, int16 [row, layer, slot].

    Raises:
        TraceError: the lists differ in length, are not three deep, or hold values other than whole numbers.
    """
    if value == []:
        return np.zeros((0, 0, 0), np.int16)
    ids = whole_numbers(value, 3)
    if ids is None:
        raise TraceError(
            f"{name} must be whole numbers in lists [token][layer][expert] of equal length; these are ragged"
        )
    return in_range(ids, name)


def whole_numbers(value: Any, axes: int) -> np.ndarray | None:
    """Return nested lists as int64 [...]; None if they are ragged, not `axes` deep, or hold anything but whole numbers.

    NumPy alone would convert some lists to text or objects, and could take far more memory than the lists.
    """
    entries, shape = [value], []
    for _ in range(axes):
        lengths = {len(entry) if type(entry) is list else -1 for entry in entries}
        if len(lengths) > 1 or -1 in lengths:
            return None
        shape.append(lengths.pop() if lengths else 0)
        entries = list(itertools.chain.from_iterable(entries))
    if set(map(type, entries)) - {int}:
        return None
    try:
        return np.fromiter(entries, np.int64, len(entries)).reshape(shape)
    except OverflowError:
        return None


def from_npy(content: bytes, name: str) -> np.ndarray:
    """Return the expert ids in a .npy file, int16 [row, layer, slot]. The header is checked before the data are read.

    Raises:
        TraceError: the file is no .npy file, holds Python objects, or differs in size from its header.
    """
    shape, fortran_order, dtype, start = _npy_header(content, name)
    if dtype.hasobject:
        raise TraceError(
            f"{name} is a .npy file of pickled objects, which could run code when read; save whole numbers"
        )
    left, size = len(content) - start, math.prod(shape) * dtype.itemsize
    if size != left:
        stated = f"{size:,}" if size < 1 << 63 else "more than any file holds"
        raise TraceError(f"{name} has {left:,} bytes of data, its header says {stated}")
    if len(shape) != 3 or dtype.kind not in "iu":
        axes = f"{len(shape)} axes of {dtype}"
        raise TraceError(f"{name} must be whole numbers [token, layer, expert], not {axes:.60}")
    ids = np.frombuffer(content, dtype, offset=start)
    return in_range(ids.reshape(shape, order="F" if fortran_order else "C"), name)


def _npy_header(content: bytes, name: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Return the shape, whether the order is Fortran's, the dtype, and the offset of the data."""
    stream = io.BytesIO(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy warns of headers that Python 2 wrote
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran_order, dtype = read(stream)
    except Exception:  # noqa: BLE001 - NumPy evaluates the header as Python, and fails in ways that it does not list
        raise TraceError(f"{name} is not a .npy file, or is damaged") from None
    if any(size < 0 for size in shape) or dtype.itemsize == 0:
        raise TraceError(f"{name} is a .npy file whose header claims an impossible size")
    return tuple(map(int, shape)), bool(fortran_order), dtype, stream.tell()


def from_base64(value: Any, name: str) -> bytes:
    """Return the bytes of a base64 text; `name` names it in the error."""
    try:
        return base64.b64decode(value.encode("ascii"), validate=True)
    except (AttributeError, UnicodeEncodeError, binascii.Error):
        raise TraceError(f"{name} is not base64, or is cut off") from None


def in_range(ids: np.ndarray, name: str) -> np.ndarray:
    """Return the values as int16; refuse values that are no expert ids. -1 is an unknown id."""
    limits.check_ids(ids.size, name)
    low, high = (int(ids.min()), int(ids.max())) if ids.size else (0, 0)
    if low < -1 or high > _LARGEST_ID:
        raise TraceError(f"{name} runs from {low} to {high}, which are no expert ids")
    return ids.astype(np.int16)


def floats(content: bytes) -> dict[str, np.ndarray]:
    """Return the tensors of a safetensors file by name, as float32. The library checks every size against the file.

    Raises:
        TraceError: the file is damaged, or a tensor does not hold floating-point numbers.
    """
    limits.check_header(content)
    try:
        stored = safetensors.deserialize(content)
    except (safetensors.SafetensorError, ValueError, MemoryError) as error:
        raise TraceError(f"the safetensors file is damaged: {' '.join(str(error).split())[:200]}") from None
    return {name: _float(name, entry) for name, entry in stored}


def _float(name: str, entry: Any) -> np.ndarray:
    dtype = _FLOATS.get(entry["dtype"])
    if dtype is None:
        raise TraceError(f"tensor {name!r:.80} is {entry['dtype']!s:.20}, not floating-point numbers")
    values = np.frombuffer(cast(bytes, entry["data"]), dtype).reshape(entry["shape"])
    if entry["dtype"] == "BF16":  # bfloat16 has the upper half of a float32's bits
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)
