"""Measure training speed against a plain loop over transformers' DeepSeek-V3 of the same shape, in the same process.

Both sides use the same windows, optimiser and clipping; transformers uses its fastest way to compute experts. Both run
in fp32 on the same threads, and their steps alternate, so that other programs disturb both alike.

    python -m tests.benchmarks.training [--shards SHARDS] [--steps 12]
"""

import functools
import tempfile
import time
import tomllib
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from transformers import AutoModelForCausalLM

from model.checkpoint.weights import save_model
from model.network.config import ModelConfig
from model.train.allocator import keep_freed_memory
from model.train.config import TrainConfig
from model.train.data.batches import Batches
from model.train.data.windows import Windows
from model.train.pretraining.initial_model import initial_model
from model.train.pretraining.trainer import Trainer

CONFIG = Path(__file__).parents[2] / "model" / "train" / "configs" / "mini-v3.toml"
EXPERTS = ("eager", "batched_mm", "grouped_mm")


class RandomWindows:
    """Random tokens for a machine without shards; their cost is the same."""

    def __init__(self, vocab_size: int, length: int) -> None:
        self._vocab_size, self._length = vocab_size, length

    def batch(self, seed: int, step: int, num_sequences: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(step)
        return torch.randint(2, self._vocab_size, (num_sequences, self._length + 1), generator=generator)


def plain_step(model: Any, optimiser: torch.optim.Optimizer, batch_BT: torch.Tensor, clip: float) -> None:
    optimiser.zero_grad()
    logits = model(batch_BT[:, :-1]).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch_BT[:, 1:].flatten()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimiser.step()


def seconds(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def reference(trainer: Trainer) -> dict[str, Any]:
    """Return transformers' model with the same weights, once for each way to compute experts that can train."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        save_model(trainer.model, folder, torch.float32)
        for way in EXPERTS:
            model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train()
            try:
                model.set_experts_implementation(way)
                batch = trainer.windows.batch(0, 0, 1)
                plain_step(model, torch.optim.AdamW(model.parameters(), lr=1e-4), batch, 1.0)
                found[way] = model
            except (RuntimeError, ValueError, NotImplementedError) as problem:
                click.echo(f"transformers, {way}: does not train here ({str(problem).splitlines()[0][:80]})")
    return found


@click.command()
@click.option("--shards", type=click.Path(exists=True, path_type=Path), help="Else tokens are random.")
@click.option("--steps", default=12, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(shards: Path | None, steps: int, threads: int) -> None:
    """Print tokens per second of both, and the ratio."""
    warnings.simplefilter("ignore")
    keep_freed_memory()
    tables = tomllib.loads(CONFIG.read_text(encoding="utf-8"))
    shape = ModelConfig(**tables["model"])
    # As the embedded model was trained: one pass per core, in parallel.
    config = TrainConfig(
        **tables["train"] | {"device": "cpu", "workers": threads, "accumulation": threads, "threads": 1}
    )
    windows: Batches[torch.Tensor] = RandomWindows(shape.vocab_size, config.sequence_length)
    if shards is not None:
        windows = Windows(shards, config.sequence_length, shape.bos_id or 0)
    trainer = Trainer(initial_model(shape, config.seed), config, windows, torch.device("cpu"))
    models = reference(trainer)
    optimisers = {way: torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True) for way, model in models.items()}
    ours: list[float] = []
    theirs: dict[str, list[float]] = {way: [] for way in models}
    with ThreadPoolExecutor(config.workers) as executor:
        for step in range(steps):
            ours.append(seconds(lambda: trainer.step(executor)))
            torch.set_num_threads(threads)
            batch = windows.batch(config.seed, step, config.batch_size * config.accumulation)
            for way, model in models.items():
                step_of = functools.partial(plain_step, model, optimisers[way], batch, config.clip)
                theirs[way].append(seconds(step_of))
    tokens = config.tokens_at(0)
    fastest = min(theirs, key=lambda way: np.median(theirs[way][1:]))
    click.echo(f"ours {tokens / np.median(ours[1:]):,.0f} tokens/s, {threads} threads, fp32, {tokens} tokens a step")
    for way, taken in theirs.items():
        click.echo(f"transformers, {way}: {tokens / np.median(taken[1:]):,.0f} tokens/s")
    ratios = np.array(theirs[fastest][1:]) / np.array(ours[1:])
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    click.echo(f"{middle:.2f} times as fast as its fastest, {fastest} (quartiles {low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
