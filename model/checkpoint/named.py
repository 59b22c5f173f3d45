"""Describes the model whose routing an engine recorded; the readers in `model.trace.imports` need the description."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from model.checkpoint.embedded import RELEASED, find_model, name_of, released_config
from model.checkpoint.names import ROUTER_BIAS, place_of, router_bias_name
from model.trace.imports.building import Named

if TYPE_CHECKING:
    import numpy as np


def named_model(model: str | Path) -> Named:
    """Return the description of an embedded model or a released configuration, by name, or of a model folder.

    Raises:
        ValueError: the config.json or the vocabulary cannot be read; the message says what to do.
    """
    from model.checkpoint.header import read_json

    if isinstance(model, str) and model in RELEASED:
        return Named(model, read_json(released_config(model)))
    return _of_folder(find_model(model))


def _of_folder(folder: Path) -> Named:
    from model.checkpoint.files import CONFIG_NAME, find_file
    from model.checkpoint.header import read_json
    from model.checkpoint.tokenizer import Tokenizer

    named = Named(name_of(folder), read_json(find_file(folder, CONFIG_NAME)), bias=_bias_of(folder))
    if not (folder / "tokenizer.json").exists():
        return named
    tokenizer = Tokenizer.load(folder)
    return dataclasses.replace(
        named,
        encode=tokenizer.encode,
        first_ids=tokenizer.first_ids,
        label=tokenizer.tokens,
        tokenizer_sha256=tokenizer.sha256,
    )


def _bias_of(folder: Path) -> "Callable[[int], np.ndarray] | None":
    """Return a function that reads the selection bias of a layer, [E]; None if the folder holds no selection bias."""
    import torch

    from model.checkpoint.files import ModelFolder

    with ModelFolder(folder, needs_weights=False) as opened:
        if not any(place_of(name).part == ROUTER_BIAS for name in opened.tensors):
            return None

    def bias(layer: int) -> "np.ndarray":
        with ModelFolder(folder) as opened:
            return opened.read_as(router_bias_name(layer), torch.float32).numpy()

    return bias
