"""Trains one part of a model whose other weights are frozen, or all of it, by a loss of its own.

What is frozen needs neither gradient nor optimiser state, so a few hundred steps are a matter of minutes on a CPU.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from model.network.transformer import Transformer
from model.train.config import TrainConfig
from model.train.log import StepLog

# From a step's batch and its number: the loss to minimise, and what else goes into the log.
PartLoss = Callable[[Any, int], tuple[Tensor, dict[str, Any]]]
Report = Callable[[dict[str, Any]], None]
Look = Callable[[], dict[str, Any]]


class Data(Protocol):
    """Gives each step its batch, which depends on the seed and the step's number alone."""

    def batch(self, seed: int, step: int, num_sequences: int, /) -> Any: ...  # noqa: D102


def only(model: Transformer, piece: str) -> Transformer:
    """Let the parameters learn whose names contain a piece, and freeze all others; return the model."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(piece in name)
    return model.eval()


def train_part(
    model: nn.Module,
    loss: PartLoss,
    config: TrainConfig,
    data: Data,
    out: Path,
    report: Report = lambda line: None,
    look: Look = dict,
) -> dict[str, Any]:
    """Minimise a loss over the parameters that require a gradient for `total_steps`, in place.

    Args:
        model: see `only`.
        loss: of one step's windows.
        config: data, rate, clipping and threads.
        data: what the loss is computed of, such as `Windows`.
        out: folder of the log; made when missing.
        report: called with each step's log line.
        look: what is measured before the first step (`before` in its line), every `look_steps`, and after the last.

    Returns:
        what was measured before the first step.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config.threads)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(
        learning,
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
        fused=True,
    )
    before = look()
    with StepLog(out) as log:
        for step in range(config.total_steps):
            began = time.perf_counter()
            optimiser.zero_grad()
            total, facts = loss(data.batch(config.seed, step, config.batch_size), step)
            total.backward()
            norm = torch.nn.utils.clip_grad_norm_(learning, config.clip)
            for group in optimiser.param_groups:
                group["lr"] = config.rate(step)
            optimiser.step()
            seconds = time.perf_counter() - began
            line = {"step": step + 1, "tokens": config.tokens_per_step, **facts}
            line |= {"rate": config.rate(step), "grad_norm": float(norm), "seconds": round(seconds, 4)}
            line["tokens_per_s"] = round(line["tokens"] / seconds, 1)
            if not step and before:
                line["before"] = before
            if (step + 1) % config.look_steps == 0 or step + 1 == config.total_steps:
                line |= look()
            log.write(line)
            report(line)
    return before
