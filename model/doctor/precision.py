"""The same model in fp32 and in bfloat16, for an audit by text of a model that transformers runs."""

import torch

from model.checkpoint.memory import available_bytes, fits_gpu
from model.families.engine import TransformersEngine
from model.families.placement import size_of

_SHARE = 0.8  # of the free memory that a second copy may take


def in_fp32(engine: TransformersEngine) -> TransformersEngine:
    """Return an engine of the model in fp32; the given engine if it is one, or if memory has no room for another."""
    if engine.dtype == torch.float32 or not _fits(engine, torch.float32):
        return engine
    return _loaded(engine, "float32")


def in_16_bits(engine: TransformersEngine, exact: TransformersEngine) -> TransformersEngine | None:
    """Return an engine of the model in 16 bits; None if memory has no room for it.

    Args:
        engine: the engine of the audit.
        exact: the engine that `in_fp32` returned for it.
    """
    if engine is not exact:
        return engine
    if engine.dtype != torch.float32 or not _fits(engine, torch.bfloat16):
        return None
    return _loaded(engine, "bfloat16")


def _loaded(engine: TransformersEngine, dtype: str) -> TransformersEngine:
    return TransformersEngine.load(engine.folder, str(engine.device), dtype, with_text=engine.tokenizer is not None)


def _fits(engine: TransformersEngine, dtype: torch.dtype) -> bool:
    needed = size_of(engine.model) * dtype.itemsize // engine.dtype.itemsize
    if engine.offloaded:
        return False
    if engine.device.type == "cuda":
        return fits_gpu(needed, engine.device)
    available = available_bytes()
    return available is None or needed < available * _SHARE
