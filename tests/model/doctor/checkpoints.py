"""Tiny checkpoints for the doctor's tests: healthy ones, and ones with a fault planted in their files."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.checkpoint.weights import save_model
from model.network.config import ModelConfig
from model.network.transformer import Transformer
from model.train.losses import update_bias
from model.train.tapes import RoutingTape
from tests.models import random_model, tiny_config

BIAS = "model.layers.3.mlp.gate.e_score_correction_bias"
GATE = "model.layers.3.mlp.gate.weight"
FP8 = dict(hidden_size=384, expert_width=384, num_layers=3)  # experts of 3 x 3 blocks

Tensors = dict[str, Tensor]


def sparse_config(**changes: object) -> ModelConfig:
    """A tiny V3.2."""
    sizes = dict(model_type="deepseek_v32", index_heads=2, index_head_dim=16, index_topk=8)
    return tiny_config(**(sizes | changes))


@functools.cache
def balanced(config: ModelConfig, seed: int = 0, steps: int = 60) -> Transformer:
    """Return a random model whose biases balance the load over random ids; callers must not change it."""
    model, generator = random_model(config, seed), torch.Generator().manual_seed(seed + 1)
    routers = model.routers()
    for router in routers:
        router.expert_bias.zero_()
    with torch.no_grad():
        for step in range(steps):
            tape = RoutingTape()
            ids = torch.randint(2, config.vocab_size, (4, 64), generator=generator)
            model(ids, tape=tape)
            for router, routing in zip(routers, tape.routings, strict=True):
                counts = torch.bincount(routing.expert_ids_TK.flatten(), minlength=config.num_experts)
                update_bias(router.expert_bias, counts, 0.02 if step < steps // 2 else 0.002)
    return model


def written(model: Transformer, folder: Path, fp8: bool = False) -> Path:
    """The model as a folder, in fp32, or bf16 with FP8 blocks."""
    save_model(model, folder, torch.bfloat16 if fp8 else torch.float32, fp8_scales=torch.float32 if fp8 else None)
    return folder


def plant(folder: Path, change: Callable[[Tensors], object]) -> Path:
    """Change the tensors of a folder's only file."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def configure(folder: Path, **changes: Any) -> Path:
    """Change keys of config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def expert(layer: int, number: int, projection: str = "up_proj") -> str:
    """The published name of an expert's matrix."""
    return f"model.layers.{layer}.mlp.experts.{number}.{projection}.weight"
