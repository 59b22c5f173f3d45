"""Trace files: safetensors with the variables under their own names and everything else as JSON in the metadata.

What is read may come from anyone: the format is checked first, sizes are checked by the safetensors library against the
file before anything is allocated, and the result is validated like any trace.
"""

import base64
import dataclasses
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
import xarray as xr

from model.trace.trace import SCHEMA, Token, Trace, TraceError

FORMAT, VERSION = "moe-loupe-trace", "1"


def dumps(trace: Trace) -> bytes:
    """The bytes of a trace file."""
    arrays = {str(name): np.ascontiguousarray(values.values) for name, values in trace.data.data_vars.items()}
    parts = {
        "dims": {name: list(SCHEMA[name][0]) for name in arrays},
        "coords": {str(dim): labels.values.tolist() for dim, labels in trace.data.coords.items()},
        "tokens": {
            "text": base64.b64encode(trace.text).decode(),
            "token": [list(dataclasses.astuple(token)) for token in trace.tokens],
        },
        "request": dict(trace.request),
        "model": dict(trace.model),
        "origin": dict(trace.origin),
    }
    metadata = {name: json.dumps(value, ensure_ascii=False) for name, value in parts.items()}
    return safetensors.numpy.save(arrays, metadata | {"format": FORMAT, "version": VERSION})


def save(trace: Trace, path: str | Path) -> None:
    """Write a trace file, to a temporary name first, so that no reader ever meets half a file.

    Raises:
        TraceError: the folder does not exist.
        OSError: the file cannot be written; nothing is left behind.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise TraceError(f"the folder {path.parent} does not exist; make it first")
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(dumps(trace))
        os.chmod(temporary, 0o644)  # mkstemp makes it private
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def load(path: str | Path) -> Trace:
    """Read a trace file.

    Raises:
        TraceError: it is missing or not a trace; the message names the file.
    """
    try:
        return loads(Path(path).read_bytes())
    except OSError as error:
        raise TraceError(f"{path} cannot be read: {error.strerror}") from None
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from None


def loads(content: bytes) -> Trace:
    """Read the bytes of a trace file.

    Raises:
        TraceError: they are not a trace, or not of this version.
    """
    metadata = _read_metadata(content)
    if metadata.get("format") != FORMAT:
        raise TraceError("this is not a MoE Loupe trace file")
    if metadata.get("version") != VERSION:
        raise TraceError(f"the trace has version {metadata.get('version')!r}; this program reads version {VERSION}")
    try:
        arrays = safetensors.numpy.load(content)
        parts = {
            name: json.loads(metadata[name]) for name in ("dims", "coords", "tokens", "request", "model", "origin")
        }
        return Trace(
            data=xr.Dataset({name: (parts["dims"][name], array) for name, array in arrays.items()}, parts["coords"]),
            tokens=tuple(_read_token(fields) for fields in parts["tokens"]["token"]),
            text=base64.b64decode(parts["tokens"]["text"], validate=True),
            **{name: _object(parts[name], name) for name in ("request", "model", "origin")},
        )
    except TraceError:
        raise
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise TraceError(f"the trace file is damaged: {' '.join(str(error).split())[:200]}") from None


def _read_metadata(content: bytes) -> dict[str, Any]:
    """The header's metadata, read without touching the tensors."""
    try:
        length = int.from_bytes(content[:8], "little")
        if len(content) < 8 or length > len(content) - 8:
            raise TraceError("this is not a MoE Loupe trace file")
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
        return metadata if isinstance(metadata, dict) else {}
    except (ValueError, AttributeError, RecursionError):
        raise TraceError("this is not a MoE Loupe trace file") from None


def _read_token(fields: list[Any]) -> Token:
    token = Token(*fields)
    kinds = (int, str, int, int, bool)
    if not all(type(value) is kind for value, kind in zip(fields, kinds, strict=True)):
        raise TraceError(f"a token must be [id, piece, start, end, generated], not {fields!r:.80}")
    return token


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TraceError(f"{name} must be a JSON object")
    return value
