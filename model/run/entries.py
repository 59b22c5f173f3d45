"""The entries `model` and `origin` of the traces that an engine measures."""

import datetime
import functools
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from model.checkpoint.tokenizer import Tokenizer
from model.checkpoint.weights import weights_sha256


def model_entry(
    name: str, config: Mapping[str, Any], weights: Path | None, tokenizer: Tokenizer | None
) -> dict[str, Any]:
    """Return the entries of `Trace.model` that do not depend on a run.

    Args:
        name: name of the model.
        config: its configuration.
        weights: folder whose weights are read for a checksum; None: no checksum, because that would read a disk again.
        tokenizer: its tokenizer.
    """
    return {
        "name": name,
        "config": dict(config),
        "weights_sha256": None if weights is None else weights_sha256(weights),
        "tokenizer_sha256": tokenizer.sha256 if tokenizer else None,
    }


def origin_entry(engine: str, device: torch.device, dtype: torch.dtype, *packages: str) -> dict[str, Any]:
    """Return `Trace.origin` of a run that ends now, with the versions of torch, of our readers and of `packages`."""
    return {
        "kind": "measured",
        "engine": engine,
        "device": str(device),
        "dtype": str(dtype).removeprefix("torch."),
        "versions": dict(_versions("torch", *packages, "numpy", "tokenizers", "safetensors")),
        "time_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


@functools.cache  # reading the metadata of four packages takes as long as decoding a token
def _versions(*packages: str) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in packages}
