"""Reads tensors of safetensors files from their byte positions.

Files are not mapped into memory: if a mapped file is truncated, a bus error ends the whole process, and every page read
counts as memory of this process. A file stays open: the byte positions would not fit a file that replaces it.
"""

import os
import threading
import weakref
from pathlib import Path

import torch
from torch import Tensor

from model.checkpoint.header import CheckpointError, StoredTensor

# Every dtype that is read, including block FP8, its scales, and packed codes.
TORCH_DTYPES = {
    **{"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"F8_E4M3": torch.float8_e4m3fn, "F8_E8M0": torch.float8_e8m0fnu, "U8": torch.uint8},
}
_POSITIONED = hasattr(os, "preadv")  # not on Windows
_MOST_AT_ONCE = 1 << 30  # Linux reads at most 2 GiB in one call


class OpenFiles:
    """Files that are read from any position, by several threads at the same time."""

    def __init__(self) -> None:
        self._files: dict[Path, int] = {}
        self._lock = threading.Lock()  # guards the open files, and the file position on systems without preadv
        self._close_files = weakref.finalize(self, _close, self._files)

    def close(self) -> None:
        """Close all files; a later read opens its file again."""
        with self._lock:
            _close(self._files)

    def read_into(self, content: Tensor, stored: StoredTensor, position: int) -> None:
        """Fill `content`, a one-dimensional tensor of bytes on the CPU, from a position in the file of `stored`.

        Raises:
            CheckpointError: the file cannot be read, or ends before `content` is full.
        """
        left = memoryview(content.numpy().data)
        try:
            file = self._open(stored.file)
            while left:
                got = self._read_at(file, left[:_MOST_AT_ONCE], position)
                if not got:
                    raise CheckpointError(f"{stored.file} ended before tensor {stored.name} did; it was truncated")
                left, position = left[got:], position + got
        except OSError as error:
            raise CheckpointError(f"{stored.file} cannot be read ({error.strerror})") from None

    def _read_at(self, file: int, content: memoryview, position: int) -> int:
        if _POSITIONED:
            return os.preadv(file, [content], position)
        with self._lock:
            os.lseek(file, position, os.SEEK_SET)
            got = os.read(file, len(content))
        content[: len(got)] = got
        return len(got)

    def _open(self, path: Path) -> int:
        with self._lock:
            if path not in self._files:
                file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
                if hasattr(os, "posix_fadvise"):  # do not read ahead beyond a tensor
                    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
                self._files[path] = file
            return self._files[path]


def read_whole(files: OpenFiles, stored: StoredTensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor as stored. `dtype` must be the PyTorch dtype that the header calls `stored.dtype`.

    Raises:
        CheckpointError: as for `OpenFiles.read_into`.
    """
    content = torch.empty(stored.num_bytes, dtype=torch.uint8)
    files.read_into(content, stored, stored.offset)
    return content.view(dtype).view(stored.shape)


def _close(files: dict[Path, int]) -> None:
    while files:
        os.close(files.popitem()[1])
