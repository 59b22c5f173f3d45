"""Reads single tensors of a model folder from their byte positions, before they are used.

A separate thread reads the announced tensors while the caller computes. Only announced tensors are kept in memory, and
only until they are taken. Several threads may take tensors at the same time.
"""

import collections
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from model.checkpoint.files import ModelFolder
from model.checkpoint.fp8 import dequantise
from model.checkpoint.header import CheckpointError, StoredTensor
from model.checkpoint.names import scale_name
from model.checkpoint.positions import TORCH_DTYPES, OpenFiles

READ_AHEAD_BYTES = 384 << 20


class DiskTensors:
    """The tensors of an opened folder; each is read when it is announced or when it is used.

    Files stay open until `close` or garbage collection: the tensors' byte positions would not fit a file that replaces
    one of them.

    Attributes:
        bytes_read: number of bytes read so far.
    """

    def __init__(self, folder: ModelFolder) -> None:
        self.tensors = folder.tensors
        self.bytes_read = 0
        self._files = OpenFiles()
        self._reader = ThreadPoolExecutor(1, "read-ahead")
        self._announced: collections.deque[str] = collections.deque()
        self._coming: dict[str, Future[Tensor]] = {}
        self._coming_bytes = 0
        self._lock = threading.Lock()  # guards the announced and coming tensors, and the count

    def close(self) -> None:
        """Stop the reading thread and close the files."""
        self._reader.shutdown(cancel_futures=True)
        self._files.close()

    def forget(self) -> None:
        """Forget all announced tensors, for example after a stopped run."""
        with self._lock:
            self._announced.clear()
            for coming in self._coming.values():
                coming.cancel()
            self._coming.clear()
            self._coming_bytes = 0

    def announce(self, names: Iterable[str]) -> None:
        """Queue tensors to be read next, in this order; at most `READ_AHEAD_BYTES` are in memory at once.

        The scales of an FP8 weight are queued after it.
        """
        with self._lock:
            for name in names:
                self._announced.append(name)
                if scale_name(name) in self.tensors:
                    self._announced.append(scale_name(name))
            self._fill()

    def take(self, name: str, dtype: torch.dtype) -> Tensor:
        """Return one tensor in a dtype, whether or not it was announced.

        Raises:
            CheckpointError: the tensor cannot be read.
        """
        if name not in self.tensors:
            raise CheckpointError(f"the folder has no tensor {name}")
        target = torch.empty(self.tensors[name].shape, dtype=dtype)
        self.take_into(name, target)
        return target

    def take_into(self, name: str, target: Tensor) -> None:
        """Fill `target`, which has the tensor's shape, with the tensor; an FP8 weight is multiplied by its scales.

        Raises:
            CheckpointError: the tensor cannot be read.
        """
        raw = self.raw(name)
        if raw.dtype != torch.float8_e4m3fn:
            target.copy_(raw)
            return
        try:
            dequantise(raw, self.raw(scale_name(name)), target)
        except CheckpointError as error:
            raise CheckpointError(f"{self.tensors[name].file}: tensor {name} cannot be read ({error})") from None

    def rows(self, name: str, indices: Iterable[int], dtype: torch.dtype) -> Tensor:
        """Return the rows of a matrix at `indices`, in a dtype; a matrix with scales is read whole."""
        if scale_name(name) in self.tensors:
            return self.take(name, dtype)[list(indices)]
        if name not in self.tensors:
            raise CheckpointError(f"the folder has no tensor {name}")
        stored = self.tensors[name]
        return torch.cat([self._read(stored, row, 1) for row in indices]).to(dtype)

    def raw(self, name: str) -> Tensor:
        """Return one tensor as stored, whether or not it was announced; FP8 is not multiplied by its scales.

        Raises:
            CheckpointError: the tensor cannot be read.
        """
        if name not in self.tensors:
            raise CheckpointError(f"the folder has no tensor {name}")
        with self._lock:
            coming = self._coming.pop(name, None)
            if coming is None and name in self._announced:
                self._announced.remove(name)
        if coming is None:
            return self._read(self.tensors[name])
        tensor = coming.result()
        with self._lock:
            self._coming_bytes -= self.tensors[name].num_bytes
            self._fill()
        return tensor

    def _fill(self) -> None:
        """Start to read announced tensors up to the limit, but at least one; the caller must hold the lock."""
        while self._announced:
            size = self.tensors[self._announced[0]].num_bytes
            if self._coming and self._coming_bytes + size > READ_AHEAD_BYTES:
                return
            name = self._announced.popleft()
            self._coming[name] = self._reader.submit(self._read, self.tensors[name])
            self._coming_bytes += size

    def _read(self, stored: StoredTensor, first_row: int = 0, num_rows: int | None = None) -> Tensor:
        if stored.dtype not in TORCH_DTYPES:
            raise CheckpointError(f"{stored.file}: tensor {stored.name} is stored as {stored.dtype}, which is not read")
        shape = stored.shape if num_rows is None else (num_rows, *stored.shape[1:])
        row_bytes = stored.num_bytes // max(1, stored.shape[0]) if stored.shape else stored.num_bytes
        size = stored.num_bytes if num_rows is None else num_rows * row_bytes
        content = torch.empty(size, dtype=torch.uint8)
        self._files.read_into(content, stored, stored.offset + first_row * row_bytes)
        with self._lock:
            self.bytes_read += size
        return content.view(TORCH_DTYPES[stored.dtype]).view(shape)
