"""Trace files: safetensors with a tensor per variable, and everything else as JSON in the metadata.

A trace file may come from anyone. The reader checks the format. The safetensors library then checks sizes against the
file before it allocates memory, and `Trace` validates the result.
"""

import base64
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
import xarray as xr

from model.trace.limits import (
    MOST_TRACE_BYTES,
    TRACE_HEADER,
    check_interventions,
    check_json,
    check_labels,
    check_tokens,
)
from model.trace.ordinary import read_ordinary
from model.trace.trace import SCHEMA, Token, Trace, TraceError
from model.trace.writing import replacing

FORMAT, VERSION = "moe-loupe-trace", "1"
# Metadata values that are JSON objects.
PARTS = ("dims", "coords", "tokens", "request", "model", "origin")


def dumps(trace: Trace) -> bytes:
    """Return the bytes of a trace file."""
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
    """Write a trace file. A write that fails leaves an existing file as it was.

    Raises:
        TraceError: the folder does not exist. OSError: the file cannot be written.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise TraceError(f"the folder {path.parent} does not exist; make it first")
    with replacing(path) as temporary:
        temporary.write_bytes(dumps(trace))


def load(path: str | Path) -> Trace:
    """Return the trace in a file.

    Raises:
        TraceError: the file is missing or is no trace; the message names the file.
    """
    try:
        return loads(read_ordinary(path, MOST_TRACE_BYTES))
    except OSError as error:
        raise TraceError(f"{path} cannot be read: {error.strerror}") from None
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from None


def loads(content: bytes) -> Trace:
    """Return the trace in the bytes of a trace file.

    Raises:
        TraceError: the bytes are no trace, are of an unsupported format version, or exceed a limit of
            `model/trace/limits.py`.
    """
    metadata = _read_metadata(content)
    if metadata.get("format") != FORMAT:
        raise TraceError("this is not a MoE Loupe trace file")
    if metadata.get("version") != VERSION:
        raise TraceError(f"the trace has version {metadata.get('version')!r:.20}; this program reads version {VERSION}")
    try:
        return _read_trace(safetensors.numpy.load(content), metadata)
    except TraceError:
        raise
    except KeyError as error:
        raise TraceError(f"the trace file is damaged: {str(error):.80} is missing or unknown") from None
    except (safetensors.SafetensorError, ValueError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise TraceError(f"the trace file is damaged: {' '.join(str(error).split())[:200]}") from None


def _read_trace(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> Trace:
    parts = {name: _read_object(metadata[name], name) for name in PARTS}
    check_tokens(len(parts["tokens"]["token"]), "the trace")
    check_labels(sum(map(len, parts["coords"].values())))
    check_interventions(len(parts["request"].get("interventions") or ()))
    return Trace(
        data=xr.Dataset({name: (parts["dims"][name], array) for name, array in arrays.items()}, parts["coords"]),
        tokens=tuple(_read_token(fields) for fields in parts["tokens"]["token"]),
        text=base64.b64decode(parts["tokens"]["text"], validate=True),
        request=parts["request"],
        model=parts["model"],
        origin=parts["origin"],
    )


def _read_metadata(content: bytes) -> dict[str, Any]:
    """Return the metadata in the header; the tensors are not read."""
    try:
        length = int.from_bytes(content[:8], "little")
        if len(content) < 8 or length > len(content) - 8:
            raise TraceError("this is not a MoE Loupe trace file")
        check_json(content[8 : 8 + length], TRACE_HEADER, "its header")
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
        return metadata if isinstance(metadata, dict) else {}
    except TraceError:
        raise
    except (ValueError, AttributeError, RecursionError):
        raise TraceError("this is not a MoE Loupe trace file") from None


def _read_object(value: str, name: str) -> dict[str, Any]:
    """Return a parsed JSON object; refuse strings with half a surrogate pair, which pages cannot encode."""
    parsed = json.loads(value)
    if not isinstance(parsed, dict):
        raise TraceError(f"{name} must be a JSON object")
    json.dumps(parsed, ensure_ascii=False).encode()
    return parsed


def _read_token(fields: Any) -> Token:
    kinds = [int, str, int, int, bool]
    if not isinstance(fields, list) or [type(value) for value in fields] != kinds:
        raise TraceError(f"a token must be [id, piece, start, end, generated], not {fields!r:.80}")
    return Token(*fields)
