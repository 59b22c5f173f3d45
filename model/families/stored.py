"""Tensors of a folder for transformers, each read when it is used.

`Reader.tensors` has what transformers expects of an opened safetensors file: a slice per tensor, read by `[...]`.
Files are read by position and not mapped (model/checkpoint/positions.py); each read reports progress, and may stop.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from model.checkpoint.header import CheckpointError, StoredTensor
from model.checkpoint.positions import TORCH_DTYPES, OpenFiles, read_whole

DTYPES = TORCH_DTYPES | {
    **{"BOOL": torch.bool, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32},
    **{"I64": torch.int64, "F64": torch.float64, "F8_E5M2": torch.float8_e5m2},
}
OnProgress = Callable[[int, int], None]


class LoadingStopped(CheckpointError):
    """The caller stopped the loading of a model; nothing of it was kept."""


class Stop(BaseException):
    """Ends a load from within; no `Exception`, because transformers notes every exception and reads on."""


class Reader:
    """Reads the tensors of a folder one by one, and counts their bytes."""

    def __init__(
        self,
        tensors: Mapping[str, StoredTensor],
        on_progress: OnProgress = lambda done, total: None,
        cancel: threading.Event | None = None,
    ) -> None:
        """Prepare to read.

        Args:
            tensors: the stored tensors by name.
            on_progress: called with the number of bytes read and of all bytes, after each tensor.
            cancel: once it is set, the next read raises `Stop`.

        Raises:
            CheckpointError: a tensor has a dtype that PyTorch does not hold.
        """
        for stored in tensors.values():
            if stored.dtype not in DTYPES:
                raise CheckpointError(
                    f"{stored.file}: tensor {stored.name} is stored as {stored.dtype}, which is not read"
                )
        self.tensors = {name: _Slice(self, stored) for name, stored in tensors.items()}
        self._total = sum(stored.num_bytes for stored in tensors.values())
        self._on_progress, self._cancel = on_progress, cancel
        self._done = 0
        self._files = OpenFiles()

    def read(self, stored: StoredTensor) -> Tensor:
        """Return a tensor as stored.

        Raises:
            Stop: the caller stopped the load.
            CheckpointError: the file cannot be read.
        """
        if self._cancel is not None and self._cancel.is_set():
            raise Stop
        tensor = read_whole(self._files, stored, DTYPES[stored.dtype])
        self._done += stored.num_bytes
        self._on_progress(min(self._done, self._total), self._total)  # a tensor may be read twice
        return tensor

    def close(self) -> None:
        """Close the files."""
        self._files.close()


class _Slice:
    """A tensor that is read when it is indexed."""

    def __init__(self, reader: Reader, stored: StoredTensor) -> None:
        self._reader, self._stored = reader, stored

    def __getitem__(self, index: Any) -> Tensor:
        return self._reader.read(self._stored)[index]

    def get_shape(self) -> list[int]:
        return list(self._stored.shape)

    def get_dtype(self) -> str:
        return self._stored.dtype


def unread(tensors: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """Return the tensors without their data, on the meta device."""
    return {
        name: torch.empty(stored.shape, dtype=DTYPES[stored.dtype], device="meta")
        for name, stored in tensors.items()
        if stored.dtype in DTYPES
    }
