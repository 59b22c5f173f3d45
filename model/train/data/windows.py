"""Random training windows from shards: a stream is drawn by its sampling share, a position uniformly within the stream.

The windows of a step depend only on the seed and the number of the step, so a resumed run continues with the same data.
A window may start anywhere in a stream, also within a record. BOS replaces the first token of a window, because every
run of the model starts with BOS. Records in one window attend to each other, as in DeepSeek-V3's pre-training.

Shape suffixes: B sequences, T positions.

Source: DeepSeek-V3 report (arXiv 2412.19437), section 4.1 (packing; more mathematics and code than in V2).
"""

import json
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.network.config import ModelConfig
from model.train.config import TrainConfig
from model.train.data.corpus import CorpusError, sampling_shares
from model.train.data.shards import INDEX

_ID = np.dtype(np.uint16)


def open_windows(shards: Path, config: TrainConfig, shape: ModelConfig) -> "Windows":
    """Return the training windows of a run.

    Raises:
        CorpusError: the shards are unusable, or lack a stream of the mixture.
        TrainConfigError: a window is longer than the model's context.
    """
    config.require_context(shape.max_positions)
    return Windows(shards, config.sequence_length, shape.bos_id or 0, config.mixture)


class Windows:
    """Training windows from the streams of a folder, with the sampling share of each stream."""

    def __init__(self, folder: Path, sequence_length: int, bos_id: int, factors: Mapping[str, float] = {}) -> None:
        """Open the shards of a folder; `mixture` describes `factors`.

        Raises:
            CorpusError: the index is missing, a shard does not match it, or the factors are unusable.
        """
        self.index = read_index(folder)
        self.sequence_length, self.bos_id = sequence_length, bos_id
        self.streams = {name: self._open(folder, name) for name in self.index["streams"]}
        self.probabilities = np.array(list(mixture(folder, factors).values()))

    def _open(self, folder: Path, name: str) -> "_Stream":
        stream = _Stream(folder / f"{name}.bin")
        if stream.num_tokens != self.index["streams"][name]["tokens"]:
            raise CorpusError(f"{stream.path} holds {stream.num_tokens} tokens, not as {INDEX} says; tokenise again")
        if stream.num_tokens <= self.sequence_length:
            raise CorpusError(f"{stream.path} is shorter than one window of {self.sequence_length + 1} tokens")
        return stream

    def batch(self, seed: int, step: int, num_sequences: int) -> Tensor:
        """Return the windows of one step, int64 [B, T + 1]; targets are the inputs shifted by one."""
        generator = np.random.default_rng([seed, step])
        names = list(self.streams)
        picks = generator.choice(len(names), size=num_sequences, p=self.probabilities)
        rows_BT = np.stack([self._window(self.streams[names[pick]], generator) for pick in picks])
        rows_BT[:, 0] = self.bos_id
        return torch.from_numpy(rows_BT)

    def _window(self, stream: "_Stream", generator: np.random.Generator) -> np.ndarray:
        start = generator.integers(stream.num_tokens - self.sequence_length)
        return stream.read(int(start), self.sequence_length + 1).astype(np.int64)


class _Stream:
    """The token ids of one shard, read by position. If the file were mapped, truncating it would end the process."""

    def __init__(self, path: Path) -> None:
        self.path, self._file = path, os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self._file)
        self.num_tokens = os.fstat(self._file).st_size // _ID.itemsize

    def read(self, start: int, number: int) -> np.ndarray:
        os.lseek(self._file, start * _ID.itemsize, os.SEEK_SET)
        ids = np.frombuffer(os.read(self._file, number * _ID.itemsize), _ID)
        if len(ids) < number:
            raise CorpusError(f"{self.path} ended while it was read; it was truncated")
        return ids


def read_index(folder: Path) -> dict[str, Any]:
    """Return the index of a folder of shards.

    Raises:
        CorpusError: the index is missing or unreadable.
    """
    try:
        return json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorpusError(f"{folder} holds no readable {INDEX}; make it with the tokenize command") from error


def mixture(folder: Path, factors: Mapping[str, float] = {}) -> dict[str, float]:
    """Return for each stream in a folder of shards its share of the training windows; see `sampling_shares`.

    Args:
        folder: the folder of shards.
        factors: stream -> factor, for streams to draw more or less often than their size gives; default 1.

    Raises:
        CorpusError: the index is missing, the shards lack a stream in `factors`, or all shares are zero.
    """
    streams = read_index(folder)["streams"]
    if unknown := factors.keys() - streams.keys():
        raise CorpusError(f"mixture names {', '.join(sorted(unknown))}, but the shards hold {', '.join(streams)}")
    shares = sampling_shares({name: stream["bytes"] for name, stream in streams.items()}, factors)
    if not any(shares.values()):
        raise CorpusError("mixture leaves no stream to draw from; give at least one a factor above 0")
    return shares
