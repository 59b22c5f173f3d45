"""The finished layers of a run from disk, one file each, so that a stopped run can continue."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from model.network.decision import Selection
from model.run.request import RequestError
from model.trace.writing import replacing

_RUN = "run.json"


class Partial:
    """The folder with the finished layers of one run.

    Attributes:
        layers_done: number of finished layers, counted from layer 0 up to the first missing file.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        """Open the folder; create it if it does not exist.

        Args:
            folder: the folder; its parent must exist.
            run: everything that the run depends on, as JSON values.

        Raises:
            RequestError: the folder holds another run, or other files.
        """
        self.folder = folder
        key = hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()
        if folder.exists():
            self._check(key)
        else:
            folder.mkdir()
            (folder / _RUN).write_text(json.dumps({"key": key}), encoding="utf-8")
        self.layers_done = 0
        while self._path(self.layers_done).is_file():
            self.layers_done += 1

    def _check(self, key: str) -> None:
        try:
            known = json.loads((self.folder / _RUN).read_text(encoding="utf-8"))["key"]
        except (OSError, ValueError, KeyError, TypeError):
            raise RequestError(f"{self.folder} is not the folder of a stopped run; remove it or rename it") from None
        if known != key:
            raise RequestError(
                f"{self.folder} holds a stopped run of something else; remove it or choose another --out"
            )

    def _path(self, layer: int) -> Path:
        return self.folder / f"layer-{layer:05d}.safetensors"

    def write(self, layer: int, residual: Tensor, selection: Selection | None, recorded: Mapping[str, Tensor]) -> None:
        """Store a finished layer: the residual stream and the selection after the layer, and its recorded tensors.

        Raises:
            OSError: the file cannot be written; the files of earlier layers stay.
        """
        tensors = {"residual": residual, **recorded}
        if selection is not None:
            tensors |= {f"selection.{name}": part for name, part in selection._asdict().items()}
        # Copies, because safetensors refuses two names for the same memory.
        copies = {
            name: part.detach().cpu().clone(memory_format=torch.contiguous_format) for name, part in tensors.items()
        }
        with replacing(self._path(layer)) as temporary:
            save_file(copies, temporary)
        self.layers_done = layer + 1

    def read(self, layer: int, device: torch.device) -> dict[str, Tensor]:
        """Return the tensors of a finished layer, by name.

        Raises:
            RequestError: the file of the layer is damaged.
        """
        try:
            stored = load(self._path(layer).read_bytes())  # not mapped: a truncated file would end the process
            return {name: tensor.to(device) for name, tensor in stored.items()}
        except (SafetensorError, OSError):
            raise RequestError(f"{self._path(layer)} is damaged; remove {self.folder} and start again") from None

    def remove(self) -> None:
        """Delete the folder; call it when the run is over."""
        shutil.rmtree(self.folder)
