"""Chooses the engine that runs a model folder: the own network for its model types, transformers for all others.

This module imports torch and transformers only when it loads a model.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from model.checkpoint.embedded import find_model
from model.checkpoint.header import read_json
from model.run.request import RequestError

if TYPE_CHECKING:
    from model.families.engine import TransformersEngine
    from model.run.engine import Engine

OWN, TRANSFORMERS = "own", "transformers"
ENGINES = (OWN, TRANSFORMERS)


def engine_for(folder: Path, engine: str | None = None) -> str:
    """Return the member of `ENGINES` that runs a folder; `engine` overrides the choice.

    Raises:
        CheckpointError: the folder has no readable config.json.
        RequestError: there is no such engine.
    """
    if engine is not None:
        if engine not in ENGINES:
            raise RequestError(f"there is no engine {engine!r}; choose from {', '.join(ENGINES)}")
        return engine
    from model.network.config import MODEL_TYPES

    return OWN if read_json(folder / "config.json").get("model_type") in MODEL_TYPES else TRANSFORMERS


def load(
    model: str | Path,
    engine: str | None = None,
    *,
    device: str = "auto",
    dtype: str | None = None,
    shard: bool = False,
    with_text: bool = True,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    cancel: threading.Event | None = None,
) -> "Engine | TransformersEngine":
    """Return the engine of an embedded model, by name, or of a folder.

    Unless a device or a dtype is given, a model that does not fit in memory stays on the disk.

    Args:
        model: name of an embedded model, or path of a folder.
        engine: a member of `ENGINES`; None: see `engine_for`.
        device: name of a PyTorch device; "auto" chooses one.
        dtype: float32, bfloat16 or float16; None: float32 in the own network, as published in others.
        shard: spread the layers of the own network over all GPUs; transformers does so by itself.
        with_text: read the tokenizer, too; without it, runs take token ids only.
        on_progress: called with the bytes read and all bytes; only transformers reports them.
        cancel: once it is set, loading by transformers ends.

    Raises:
        CheckpointError, ConfigError: the folder cannot be opened by this engine.
        RequestError: the engine or the dtype is not known.
        DeviceError: this machine lacks the device.
    """
    folder = find_model(model)
    if engine_for(folder, engine) == TRANSFORMERS:
        from model.families.engine import TransformersEngine

        return TransformersEngine.load(folder, device, dtype, with_text, on_progress, cancel)
    from model.run.engine import Engine

    if dtype is None and device == "auto" and not shard:
        return Engine.fitting(folder, with_text)
    return Engine.load(folder, device, dtype or "float32", shard=shard, with_text=with_text)
