"""A model small enough to train during a page visit, with or without balancing of its experts.

The model has two MoE layers, each of 16 experts in four groups, and reads bytes of the bundled sample. Runs with the
same seed start from the same weights and read the same windows, so two runs differ only in the balancing.

Source: DeepSeek-V3 report (arXiv 2412.19437), section 2.1.2; auxiliary-loss-free balancing (arXiv 2408.15664).
"""

import dataclasses
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from model.network.config import ModelConfig
from model.train.config import TrainConfig
from model.train.demo.sample import BOS, VOCABULARY, ByteWindows
from model.train.pretraining.initial_model import initial_model
from model.train.pretraining.trainer import Trainer
from model.train.watch import Watch

NOTHING, BIAS, LOSS = METHODS = ("nothing", "bias", "loss")  # what balances the experts
STEPS = 400
CONTEXT = 96


@dataclasses.dataclass(frozen=True, slots=True)
class Nano:
    """Settings of one run."""

    method: str = BIAS  # one of `METHODS`
    strength: float = 0.02  # size of a bias update, or weight of the Switch loss
    softmax: bool = False  # affinities by softmax instead of sigmoid
    limit_groups: bool = True  # select experts from two of the four groups only
    steps: int = STEPS
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"unknown balancing method {self.method!r}; choose from {', '.join(METHODS)}")
        if self.strength < 0 or self.steps < 1:
            raise ValueError("strength must be at least 0 and steps at least 1")

    @property
    def shape(self) -> ModelConfig:
        """The configuration of the model."""
        return ModelConfig(
            vocab_size=VOCABULARY, hidden_size=64, num_layers=3, num_dense_layers=1, num_heads=4, q_lora_rank=None,
            kv_lora_rank=24, nope_head_dim=16, rope_head_dim=8, value_head_dim=16, dense_width=128, expert_width=32,
            num_experts=16, num_shared_experts=1, top_k=2, num_groups=4, num_kept_groups=2 if self.limit_groups else 4,
            normalise_weights=True, routed_scale=1.0, max_positions=CONTEXT, tie_embeddings=True, bos_id=BOS,
            eos_id=None, scoring="softmax" if self.softmax else "sigmoid",
        )  # fmt: skip

    @property
    def training(self) -> TrainConfig:
        """The training settings: one forward pass per step, with the current number of PyTorch threads."""
        return TrainConfig(
            seed=self.seed, total_steps=self.steps, warmup_steps=20, decay_steps=0, learning_rate=6e-3,
            sequence_length=CONTEXT, batch_size=12, balance_weight=0.0,
            bias_speed=self.strength if self.method == BIAS else 0.0, bias_centred=True,
            switch_weight=self.strength if self.method == LOSS else 0.0,
            threads=torch.get_num_threads(), device="cpu", dtype="float32",
        )  # fmt: skip


def train_nano(nano: Nano, cancel: threading.Event | None = None) -> Iterator[dict[str, Any]]:
    """Train a model; yield the log line of each step, with biases and alarms. End early if `cancel` is set."""
    trainer = Trainer(initial_model(nano.shape, nano.seed), nano.training, ByteWindows(CONTEXT), torch.device("cpu"))
    watch = Watch(nano.shape)
    with ThreadPoolExecutor(1) as executor:
        for _ in range(nano.steps):
            if cancel is not None and cancel.is_set():
                return
            line = trainer.step(executor) | {"bias": trainer.biases()}
            yield line | watch.check(line)
