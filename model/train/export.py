"""Writes a trained model as a model folder."""

import shutil
from pathlib import Path

import torch

from model.checkpoint.names import slots
from model.checkpoint.weights import save_model, stored_bytes
from model.network.transformer import Transformer


def export(model: Transformer, tokenizer: Path, folder: Path, store: str = "auto") -> None:
    """Write a model folder: config.json, weights, and a copy of tokenizer.json.

    A multi-token-prediction module gets its own weight file.

    Args:
        model: the model.
        tokenizer: the tokenizer.json to copy.
        folder: the folder, created if it is missing; its parent must exist.
        store: dtype of the weights: float32, bfloat16, or fp8 in blocks. auto: fp8 for a model with sparse attention,
            as released, else bfloat16.
    """
    if store == "auto":
        store = "fp8" if model.config.is_sparse else "bfloat16"
    dtype = torch.float32 if store == "float32" else torch.bfloat16
    own_bytes = sum(stored_bytes(slot, dtype) for slot in slots(model.config))
    shards = own_bytes if model.config.has_mtp else None
    scales = torch.float32 if store == "fp8" else None
    save_model(model, folder, dtype, shards, scales, fp8_embedding=store == "fp8")
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
