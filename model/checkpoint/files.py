"""A model folder in the Hugging Face layout, read without trusting it.

Only JSON and safetensors are read. A pickled weight file is refused, because reading it could run code. Shard names
come from the index and must be plain file names. A link must not lead out of the folder; the only exception is a link
from a snapshot in a hub cache to the blobs of its repository. Every problem raises a `CheckpointError` of one line that
names the file or tensor. `weights.py` has the list of required tensors, and `fp8.py` decodes FP8.
"""

import collections
import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from model.checkpoint.fp8 import dequantise, grid, quantization_problem
from model.checkpoint.header import (
    PICKLE_SUFFIXES,
    READABLE_DTYPES,
    SCALE_DTYPES,
    SCALED_DTYPE,
    CheckpointError,
    StoredTensor,
    pickle_refusal,
    read_header,
    read_json,
    unsupported_dtype,
)
from model.checkpoint.layouts import lost_shards, no_config, no_weights
from model.checkpoint.names import scale_name
from model.checkpoint.positions import TORCH_DTYPES, OpenFiles, read_whole
from model.trace.limits import WEIGHT_LIST

CONFIG_NAME = "config.json"
SINGLE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
GENERATION_NAME = "generation_config.json"

_HASH_BLOCK_BYTES = 1 << 22


class ModelFolder:
    """An opened model folder: its `config.json`, the list of its tensors, and methods that read a tensor.

    Opening reads only the configuration, the index and the headers. Files stay open until `close`, or until the end of
    a `with` block.

    Attributes:
        path: the folder as given.
        config: the object in `config.json`.
        tensors: every stored tensor by its published name.
        repeated: names of tensors in several files; the index says which file is read.
    """

    def __init__(self, path: str | Path, needs_weights: bool = True) -> None:
        """Open the folder.

        Args:
            path: the folder.
            needs_weights: True: a folder that holds only `config.json` is an error; False: it opens without tensors.

        Raises:
            CheckpointError: the folder, its configuration, its index or a header cannot be used.
        """
        self.path = Path(path)
        if not self.path.is_dir():
            raise CheckpointError(f"{self.path} is not a folder; give one that holds {CONFIG_NAME} and {SINGLE_NAME}")
        if not os.path.lexists(self.path / CONFIG_NAME) and (cause := no_config(self.path)):
            raise CheckpointError(f"{self.path} lacks {CONFIG_NAME}: {cause}")
        self.config = read_json(self._find(CONFIG_NAME))
        self._files = OpenFiles()
        self._file_names: tuple[str, ...] = ()
        self.repeated: tuple[str, ...] = ()
        self.tensors: Mapping[str, StoredTensor] = self._list_tensors(needs_weights)

    def __enter__(self) -> "ModelFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the opened weight files."""
        self._files.close()

    @property
    def has_weights(self) -> bool:
        """Whether the folder has a weight file."""
        return bool(self._file_names)

    def generation_tokens(self) -> dict[str, Any]:
        """Return `bos_token_id` and `eos_token_id` as `generation_config.json` states them; empty without the file.

        A published `generation_config.json` may list more ids than `config.json`.

        Raises:
            CheckpointError: the file is unusable, or both files state a key without a common id.
        """
        if not os.path.lexists(self.path / GENERATION_NAME):
            return {}
        stated = read_json(self._find(GENERATION_NAME))
        found = {key: stated[key] for key in ("bos_token_id", "eos_token_id") if stated.get(key) is not None}
        for key, value in found.items():
            here = self.config.get(key)
            if here is not None and not any(token_id in _listed(here) for token_id in _listed(value)):
                raise CheckpointError(
                    f"{self.path}: {key} {here!r:.80} in {CONFIG_NAME} and {value!r:.80} in {GENERATION_NAME} "
                    "contradict each other; keep the right one"
                )
        return found

    def sha256(self) -> str:
        """Return the SHA-256 of the weight files, concatenated in the order of their names."""
        digest = hashlib.sha256()
        for name in sorted(self._file_names):
            with self._find(name).open("rb") as file:
                while block := file.read(_HASH_BLOCK_BYTES):
                    digest.update(block)
        return digest.hexdigest()

    def problem(self, name: str) -> str:
        """Return why a stored tensor cannot be decoded, in one line; empty if it can. Only headers are used."""
        stored = self.tensors[name]
        if stored.dtype == SCALED_DTYPE:
            return self._scaling_problem(stored)
        return "" if stored.dtype in READABLE_DTYPES else unsupported_dtype(stored)

    def _scaling_problem(self, stored: StoredTensor) -> str:
        if self.config.get("quantization_config") is None:
            return f"{CONFIG_NAME} has no quantization_config, which FP8 weights such as {stored.name} need"
        if problem := quantization_problem(self.config):
            return f"{CONFIG_NAME}: {problem}"
        if len(stored.shape) != 2:
            return f"tensor {stored.name} is stored as {stored.dtype} but is no matrix"
        scale = self.tensors.get(scale_name(stored.name))
        if scale is None:
            return f"tensor {scale_name(stored.name)} is missing, without which {stored.name} cannot be read"
        if scale.shape != grid(stored.shape):
            return f"tensor {scale.name} has shape {list(scale.shape)}, its weight needs {list(grid(stored.shape))}"
        if scale.dtype not in SCALE_DTYPES:
            return f"tensor {scale.name} is stored as {scale.dtype}; scales must be {' or '.join(SCALE_DTYPES)}"
        return ""

    def read_into(self, name: str, target: torch.Tensor) -> None:
        """Fill `target` with a tensor; `target` has the stored shape and any floating dtype.

        An FP8 weight is multiplied by its scales, which may be in another file; other dtypes are converted.

        Raises:
            CheckpointError: the folder lacks the tensor, or the tensor cannot be decoded (see `problem`).
        """
        self._check(name)
        if self.tensors[name].dtype != SCALED_DTYPE:
            target.copy_(self._read(name))
            return
        try:
            dequantise(self._read(name), self._read(scale_name(name)), target)
        except CheckpointError as error:
            raise CheckpointError(f"{self.tensors[name].file}: tensor {name} cannot be read ({error})") from None

    def read_as(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        """Return a tensor on the CPU in `dtype`, of the stored shape; see `read_into`."""
        self._check(name)
        stored = self.tensors[name]
        if stored.dtype in READABLE_DTYPES and TORCH_DTYPES[stored.dtype] == dtype:
            return self._read(name)
        target = torch.empty(stored.shape, dtype=dtype)
        self.read_into(name, target)
        return target

    def _check(self, name: str) -> None:
        if name not in self.tensors:
            raise CheckpointError(f"{self.path} has no tensor {name}")
        if problem := self.problem(name):
            raise CheckpointError(f"{self.path}: {problem}")

    def _read(self, name: str) -> torch.Tensor:
        """Return one tensor as stored."""
        stored = self.tensors[name]
        return read_whole(self._files, stored, TORCH_DTYPES[stored.dtype])

    def _find(self, name: str) -> Path:
        return find_file(self.path, name)

    def _list_tensors(self, needs_weights: bool) -> dict[str, StoredTensor]:
        if os.path.lexists(self.path / SINGLE_NAME):
            self._file_names = (SINGLE_NAME,)
            return read_header(self._find(SINGLE_NAME))
        if os.path.lexists(self.path / INDEX_NAME):
            return self._list_shards(_read_weight_map(self._find(INDEX_NAME)))
        pickled = sorted(file.name for file in self.path.iterdir() if file.suffix in PICKLE_SUFFIXES)
        if pickled:
            raise CheckpointError(f"{self.path} holds {pickle_refusal(pickled[0])}")
        if cause := no_weights(self.path):
            raise CheckpointError(f"{self.path} holds neither {SINGLE_NAME} nor {INDEX_NAME}: {cause}")
        if needs_weights:
            raise CheckpointError(f"{self.path} holds neither {SINGLE_NAME} nor {INDEX_NAME}")
        return {}

    def _list_shards(self, weight_map: Mapping[str, str]) -> dict[str, StoredTensor]:
        self._file_names = tuple(sorted(set(weight_map.values())))
        if lost := lost_shards(self.path, INDEX_NAME, self._file_names):
            raise CheckpointError(f"{self.path} {lost}")
        headers = {file_name: read_header(self._find(file_name)) for file_name in self._file_names}
        counts = collections.Counter(name for header in headers.values() for name in header)
        self.repeated = tuple(sorted(name for name, count in counts.items() if count > 1))
        for name, file_name in weight_map.items():
            if name not in headers[file_name]:
                raise CheckpointError(f"{self.path / INDEX_NAME} places {name} in {file_name}, which does not hold it")
        return {name: headers[file_name][name] for name, file_name in weight_map.items()}


def _listed(ids: Any) -> list[Any]:
    return ids if isinstance(ids, list) else [ids]


def find_file(folder: Path, name: str) -> Path:
    """Return the path of the regular file `name` directly in `folder`.

    Raises:
        CheckpointError: the name is not a plain file name, there is no such regular file, or a link leads elsewhere.
    """
    if name in ("", ".", "..") or any(character in name for character in "/\\\0"):
        raise CheckpointError(f"{folder}: {name!r} is not a plain file name, so it is not opened")
    root = folder.resolve()
    try:
        path = (root / name).resolve(strict=True)
        is_ordinary = stat.S_ISREG(path.stat().st_mode)
    except (OSError, RuntimeError):
        raise CheckpointError(f"{folder} lacks {name}") from None
    if path.parent != root and not _is_blob_of_snapshot(path, root):
        raise CheckpointError(f"{folder / name} is a link out of its folder and is not followed; copy the file there")
    if not is_ordinary:
        raise CheckpointError(f"{folder / name} is not an ordinary file")
    return folder / name


def _is_blob_of_snapshot(path: Path, root: Path) -> bool:
    return root.parent.name == "snapshots" and path.parent == root.parent.parent / "blobs"


def _read_weight_map(path: Path) -> dict[str, str]:
    weight_map = read_json(path, WEIGHT_LIST).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path} has no weight_map that says which file holds which tensor")
    for name, file_name in weight_map.items():
        if not isinstance(file_name, str):
            raise CheckpointError(f"{path}: the file of {name} must be a name, not {file_name!r}")
        if Path(file_name).suffix in PICKLE_SUFFIXES:
            raise CheckpointError(f"{path} names {pickle_refusal(file_name)}")
        if not file_name.endswith(".safetensors"):
            raise CheckpointError(f"{path}: {file_name!r} is not a .safetensors file")
    return weight_map
