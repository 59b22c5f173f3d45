"""Checks for files that a run ignores: an adapter, a second set of weights, a second copy of a tensor.

If two files hold different values under one tensor name, loaders may disagree on which file they read.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from model.checkpoint import beside
from model.checkpoint.files import find_file
from model.checkpoint.header import CheckpointError, StoredTensor, read_header
from model.checkpoint.layouts import ADAPTER_WEIGHTS
from model.checkpoint.positions import OpenFiles
from model.checkpoint.weights import Manifest
from model.doctor.findings import ERROR, NOTE, WARNING, Finding

NAME = "other files"
_CHUNK = 1 << 22  # bytes that are compared at once

_ADAPTER = "The audit, too, reads the base model alone."
_BESIDE = "A loader that reads them runs another model than this audit describes; take away the files you do not need."
_UNLIKE = (
    "A loader that takes the other file runs another model. A shard of another step or another model was copied over; "
    "take away the wrong file."
)


def check_beside(manifest: Manifest, folder: Path) -> Iterator[Finding]:
    """Yield the findings on adapters, weight files and configuration keys that a run ignores."""
    for line in beside.adapters(manifest, folder):
        yield Finding(WARNING, NAME, line, _ADAPTER, {})
    for line in beside.other_weights(manifest, folder):
        yield Finding(NOTE, NAME, line, _BESIDE, {})
    for line in beside.configuration(manifest, folder):
        yield Finding(NOTE, NAME, line, "Another program may follow it; the numbers here do not depend on it.", {})


def check_repeated(
    folder: Path, read: Mapping[str, StoredTensor], cancel: threading.Event | None = None
) -> Iterator[Finding]:
    """Yield a finding for each pair of files that hold different values under one name.

    Args:
        folder: the model folder.
        read: the tensors that a run reads, by name.
        cancel: ends the comparison once it is set; checked before each tensor.
    """
    with contextlib.closing(OpenFiles()) as files:
        for path in sorted(folder.glob("*.safetensors")):
            others = {} if path.name == ADAPTER_WEIGHTS else _header(folder, path.name)
            unlike: dict[str, list[str]] = {}  # file that is read -> names with other values here
            for name, other in others.items():
                if cancel is not None and cancel.is_set():
                    return
                if name in read and read[name].file != other.file and not _equal(files, read[name], other):
                    unlike.setdefault(read[name].file.name, []).append(name)
            for file_name, names in unlike.items():
                yield _unlike(file_name, path.name, names, len(others))


def _header(folder: Path, name: str) -> dict[str, StoredTensor]:
    try:
        return read_header(find_file(folder, name))
    except (CheckpointError, OSError):
        return {}  # no run reads it


def _equal(files: OpenFiles, one: StoredTensor, other: StoredTensor) -> bool:
    """Whether two stored tensors are equal byte by byte."""
    if (one.dtype, one.shape, one.num_bytes) != (other.dtype, other.shape, other.num_bytes):
        return False
    for start in range(0, one.num_bytes, _CHUNK):
        size = min(_CHUNK, one.num_bytes - start)
        parts = []
        for stored in (one, other):
            content = torch.empty(size, dtype=torch.uint8)
            files.read_into(content, dataclasses.replace(stored, num_bytes=size), stored.offset + start)
            parts.append(content)
        if not torch.equal(*parts):
            return False
    return True


def _unlike(read: str, other: str, names: list[str], held: int) -> Finding:
    tensors = "1 tensor has" if len(names) == 1 else f"{len(names):,} tensors have"
    what = f"{tensors} other values in {other} than in {read}, the first is {names[0]}; {read} is read"
    return Finding(ERROR, NAME, what, _UNLIKE, {"tensors": len(names), "of": held}, tensor=names[0])
