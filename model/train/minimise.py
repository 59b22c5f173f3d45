"""Trains one part of a model whose other weights are frozen, or all of it, by a loss of its own.

What is frozen needs neither gradient nor optimiser state, so a few hundred steps are a matter of minutes on a CPU.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.train.autocast import norm_warning_ignored
from model.train.config import TrainConfig, TrainConfigError
from model.train.data.batches import Batches
from model.train.freezing import freeze
from model.train.log import StepLog
from model.train.optimiser import make_optimiser
from model.train.state import STATE, load_state, save_state
from model.train.stop import stop_on_signal

# From a step's batch and its number: the loss to minimise, and what else goes into the log.
PartLoss = Callable[[Any, int], tuple[Tensor, dict[str, Any]]]
Report = Callable[[dict[str, Any]], None]
Look = Callable[[], dict[str, Any]]
AfterStep = Callable[[dict[str, Any], int], None]


class Stopped(Exception):
    """A run was told to end before its last step; its state is saved."""


def minimise(
    model: nn.Module,
    loss: PartLoss,
    config: TrainConfig,
    data: Batches[Any],
    out: Path,
    report: Report = lambda line: None,
    look: Look = dict,
    resume: bool = False,
    after_step: AfterStep = lambda facts, step: None,
) -> dict[str, Any]:
    """Minimise a loss over the parameters that require a gradient for `total_steps`, in place.

    Args:
        model: see `only`.
        loss: of one pass's batch; what it says of several passes is put together by `together`.
        config: data, rate, clipping, what else is frozen, accumulation, dtype of products, and threads.
        data: what the loss is computed of, such as `Windows`.
        out: folder of the log and the state; made when missing.
        report: called with each step's log line.
        look: what is measured before the first step (`before` in its line), every `look_steps`, and after the last.
        resume: continue from the state in `out`.
        after_step: what else changes with a step, given what `loss` said of it.

    Returns:
        what was measured before the first step.

    Raises:
        Stopped: by a signal, before the last step.
        StateError: the state cannot be resumed.
        TrainConfigError: another device is asked for than the CPU.
    """
    _require_cpu(config)
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config.threads)
    learning = freeze(model, config.frozen)
    optimiser = make_optimiser(model, config)
    resumed = load_state(out, model, optimiser) if resume and (out / STATE).exists() else {"step": 0, "before": look()}
    done, before = resumed["step"], resumed["before"]

    def save(step: int) -> None:
        save_state(out, model, optimiser, {"step": step, "before": before})

    with norm_warning_ignored(), StepLog(out, done) as log, stop_on_signal() as stopped:
        for step in range(done, config.total_steps):
            if stopped():
                save(step)
                raise Stopped(f"{step} of {config.total_steps} steps done")
            line = _step(step, learning, optimiser, loss, config, data, after_step)
            if not step and before:
                line["before"] = before
            if (step + 1) % config.look_steps == 0 or step + 1 == config.total_steps:
                line |= look()
            log.write(line)
            report(line)
            if (step + 1) % config.checkpoint_steps == 0:
                save(step + 1)
    save(config.total_steps)
    return before


def _require_cpu(config: TrainConfig) -> None:
    if config.device not in ("auto", "cpu"):
        raise TrainConfigError(f"this stage is computed on the CPU; leave out device, which is {config.device!r}")


def _step(
    step: int,
    learning: Sequence[nn.Parameter],
    optimiser: torch.optim.Optimizer,
    loss: PartLoss,
    config: TrainConfig,
    data: Batches[Any],
    after_step: AfterStep,
) -> dict[str, Any]:
    """Do one step and return its log line."""
    began = time.perf_counter()
    optimiser.zero_grad()
    facts = together([_pass(loss, config, data, step, place) for place in range(config.passes_at(step))])
    norm = torch.nn.utils.clip_grad_norm_(learning, config.clip)
    for group in optimiser.param_groups:
        group["lr"] = config.rate(step)
    optimiser.step()
    after_step(facts, step)
    seconds = time.perf_counter() - began
    line = {"step": step + 1, "tokens": config.tokens_at(step), **facts}
    line |= {"rate": config.rate(step), "grad_norm": float(norm), "seconds": round(seconds, 4)}
    return line | {"tokens_per_s": round(line["tokens"] / seconds, 1)}


def _pass(loss: PartLoss, config: TrainConfig, data: Batches[Any], step: int, place: int) -> dict[str, Any]:
    """Add the gradient of one of a step's passes, and give what is said of it."""
    passes = config.passes_at(step)
    batch = data.batch(config.seed, step * config.accumulation + place, config.batch_size)
    with torch.autocast("cpu", torch.bfloat16, enabled=config.dtype == "bfloat16"):
        total, facts = loss(batch, step)
    (total / passes).backward()
    return facts


def together(said: Sequence[Any]) -> Any:
    """What several passes say, as one: counts are added up, measures averaged, lists and tables entry by entry.

    >>> together([{"loss": 1.0, "load": [1, 2]}, {"loss": 3.0, "load": [0, 5]}])
    {'loss': 2.0, 'load': [1, 7]}
    """
    first = said[0]
    if isinstance(first, dict):
        return {name: together([each[name] for each in said]) for name in first}
    if isinstance(first, list):
        return [together(entries) for entries in zip(*said, strict=True)]
    return sum(said) if isinstance(first, int) else sum(said) / len(said)
