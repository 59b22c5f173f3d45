"""Read untrusted JSON, base64, .npy and safetensors; never a pickle.

The readers check every size against the number of bytes before they allocate memory. Every fault becomes a
`TraceError` of one line.
"""

import base64
import binascii
import io
import json
import math
from typing import Any, cast

import numpy as np
import safetensors

from model.trace.trace import TraceError

PICKLES = (b"PK\x03\x04", b"PK\x05\x06", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # torch.save, pickle
NPY = b"\x93NUMPY"
_FLOATS = {"F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_LARGEST_ID = np.iinfo(np.int16).max
MOST_TOKENS = 1 << 20  # per run, more than any context; without a limit a few bytes could claim all memory


def parse_json(content: bytes) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Parse a JSON document.

    Raises:
        TraceError: it is no JSON, is cut off, or is nested too deeply.
    """
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise TraceError(f"the file is not UTF-8 text (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise TraceError(f"the file is not whole JSON (line {error.lineno}, column {error.colno})") from None
    except (ValueError, RecursionError):
        raise TraceError("the file is JSON that is nested too deeply, or holds an absurd number") from None


def member(value: Any, name: str, kind: type, what: str) -> Any:  # noqa: ANN401 - a value of `kind`, or None
    """Return an entry of a JSON object; None if it is absent or null. `what` names the object in the error."""
    entry = value.get(name) if isinstance(value, dict) else None
    if entry is None:
        return None
    if not isinstance(entry, kind) or (kind is int and isinstance(entry, bool)):
        raise TraceError(f"{name} of {what} must be a {_KINDS[kind]}, not {type(entry).__name__}")
    return plain_text(entry, name) if kind is str else entry


_KINDS = {str: "text", int: "whole number", list: "list", dict: "JSON object"}


def plain_text(value: str, name: str) -> str:
    """Return the text; refuse half a surrogate pair, which JSON allows and which would fail later, on a page."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise TraceError(f"{name} holds half of a surrogate pair, which is not valid Unicode") from None
    return value


def number_of(value: Any, name: str, what: str) -> int | None:
    """Return a token count from a JSON object; None if it is absent."""
    number = member(value, name, int, what)
    if number is not None and not 0 <= number <= MOST_TOKENS:
        raise TraceError(f"{name} of {what} is {number:.20g}; a number of tokens is from 0 to {MOST_TOKENS:,}")
    return number


def token_ids(value: Any, name: str) -> list[int] | None:
    """Check a list of token ids, and return it; None stays None."""
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(entry) is int and 0 <= entry < 1 << 31 for entry in value):
        raise TraceError(f"{name} must be a list of token ids")
    return value


def from_lists(value: Any, name: str) -> np.ndarray:
    """Read expert ids from nested lists, int64 [rows, layer, slot].

    Raises:
        TraceError: the lists are ragged, not three deep, or hold other values than whole numbers.
    """
    if value == []:
        return np.zeros((0, 0, 0), np.int64)
    try:
        ids = np.array(value)
    except (ValueError, OverflowError, RecursionError):
        raise TraceError(f"{name} must be lists [token][layer][expert] of equal length; these are ragged") from None
    return _checked(ids, name)


def from_npy(content: bytes, name: str) -> np.ndarray:
    """Read expert ids from a .npy file, int64 [rows, layer, slot]; the header is checked before the data are read.

    Raises:
        TraceError: it is no .npy file, holds Python objects, or has another size than its header states.
    """
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    except (ValueError, TypeError, SyntaxError, EOFError, RecursionError, MemoryError, OverflowError):
        raise TraceError(f"{name} is not a .npy file, or is damaged") from None
    if dtype.hasobject:
        raise TraceError(
            f"{name} is a .npy file of pickled objects, which could run code when read; save whole numbers"
        )
    left = len(content) - stream.tell()
    if math.prod(shape) * dtype.itemsize != left:
        raise TraceError(f"{name} has {left:,} bytes of data, its header says {math.prod(shape) * dtype.itemsize:,}")
    stream.seek(0)
    return _checked(np.load(stream, allow_pickle=False), name)


def from_base64(value: Any, name: str) -> bytes:
    """Decode a base64 text."""
    try:
        return base64.b64decode(value.encode("ascii"), validate=True)
    except (AttributeError, UnicodeEncodeError, binascii.Error):
        raise TraceError(f"{name} is not base64, or is cut off") from None


def _checked(ids: np.ndarray, name: str) -> np.ndarray:
    if ids.ndim != 3 or ids.dtype.kind not in "iu":
        axes = f"{ids.ndim} axes of {ids.dtype}"
        raise TraceError(f"{name} must be whole numbers [token, layer, expert], not {axes:.60}")
    return in_range(ids, name)


def in_range(ids: np.ndarray, name: str) -> np.ndarray:
    """Check that all values can be expert ids, with -1 for an unknown one, and return them as int64."""
    low, high = (int(ids.min()), int(ids.max())) if ids.size else (0, 0)
    if low < -1 or high > _LARGEST_ID:
        raise TraceError(f"{name} runs from {low} to {high}, which are no expert ids")
    return ids.astype(np.int64)


def floats(content: bytes) -> dict[str, np.ndarray]:
    """Read the tensors of a safetensors file as float32, by name; the library checks every size against the file.

    Raises:
        TraceError: the file is damaged, or a tensor does not hold floating-point numbers.
    """
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
    if entry["dtype"] == "BF16":  # the upper half of a float32
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)
