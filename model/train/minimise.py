"""The training loop of the stages after pre-training: minimises a given loss over the trainable parameters.

Frozen parameters need neither gradients nor optimiser state, so a few hundred steps take minutes on a CPU.
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

# Takes a batch and the number of its step; returns the loss, and further values for the log.
Loss = Callable[[Any, int], tuple[Tensor, dict[str, Any]]]
Report = Callable[[dict[str, Any]], None]
Evaluate = Callable[[], dict[str, Any]]
AfterStep = Callable[[dict[str, Any], int], None]


class Stopped(Exception):
    """A signal ended the run before its last step; the state has been saved."""


def minimise(
    model: nn.Module,
    loss: Loss,
    config: TrainConfig,
    data: Batches[Any],
    out: Path,
    report: Report = lambda line: None,
    evaluate: Evaluate = dict,
    resume: bool = False,
    after_step: AfterStep = lambda facts, step: None,
) -> dict[str, Any]:
    """Minimise a loss for `total_steps` over the parameters that require a gradient, in place.

    Args:
        model: trained in place; parameters named by `config.frozen` stay fixed.
        loss: called with each forward pass's batch and the step number; `merge_facts` merges its values for the log.
        config: schedule, clipping, frozen parameters, accumulation, dtype of products, and threads.
        data: batches for the loss, such as `Windows`.
        out: folder of the log and the state; created if missing.
        report: called with each step's log line.
        evaluate: returns results for the log; called before the first step (logged as `before`), every `look_steps`
            steps, and after the last step.
        resume: continue from the state in `out`.
        after_step: called after a step with its values for the log and its number.

    Returns:
        The results of `evaluate` before the first step.

    Raises:
        Stopped: a signal arrived before the last step.
        StateError: the state cannot be resumed.
        TrainConfigError: the configured device is not the CPU.
    """
    _require_cpu(config)
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config.threads)
    trainable = freeze(model, config.frozen)
    optimiser = make_optimiser(model, config)
    resumed = (
        load_state(out, model, optimiser) if resume and (out / STATE).exists() else {"step": 0, "before": evaluate()}
    )
    done, before = resumed["step"], resumed["before"]

    def save(step: int) -> None:
        save_state(out, model, optimiser, {"step": step, "before": before})

    with norm_warning_ignored(), StepLog(out, done) as log, stop_on_signal() as stopped:
        for step in range(done, config.total_steps):
            if stopped():
                save(step)
                raise Stopped(f"{step} of {config.total_steps} steps done")
            line = _step(step, trainable, optimiser, loss, config, data, after_step)
            if not step and before:
                line["before"] = before
            if (step + 1) % config.look_steps == 0 or step + 1 == config.total_steps:
                line |= evaluate()
            log.write(line)
            report(line)
            if (step + 1) % config.checkpoint_steps == 0:
                save(step + 1)
    save(config.total_steps)
    return before


def _require_cpu(config: TrainConfig) -> None:
    if config.device not in ("auto", "cpu"):
        raise TrainConfigError(f"this stage runs on the CPU only; remove device, which is {config.device!r}")


def _step(
    step: int,
    trainable: Sequence[nn.Parameter],
    optimiser: torch.optim.Optimizer,
    loss: Loss,
    config: TrainConfig,
    data: Batches[Any],
    after_step: AfterStep,
) -> dict[str, Any]:
    """Do one step and return its log line."""
    started = time.perf_counter()
    optimiser.zero_grad()
    facts = merge_facts([_pass(loss, config, data, step, number) for number in range(config.passes_at(step))])
    norm = torch.nn.utils.clip_grad_norm_(trainable, config.clip)
    for group in optimiser.param_groups:
        group["lr"] = config.rate(step)
    optimiser.step()
    after_step(facts, step)
    seconds = time.perf_counter() - started
    line = {"step": step + 1, "tokens": config.tokens_at(step), **facts}
    line |= {"rate": config.rate(step), "grad_norm": float(norm), "seconds": round(seconds, 4)}
    return line | {"tokens_per_s": round(line["tokens"] / seconds, 1)}


def _pass(loss: Loss, config: TrainConfig, data: Batches[Any], step: int, number: int) -> dict[str, Any]:
    """Add the gradient of one forward pass of a step to the parameters, and return its values for the log."""
    num_passes = config.passes_at(step)
    batch = data.batch(config.seed, step * config.accumulation + number, config.batch_size)
    with torch.autocast("cpu", torch.bfloat16, enabled=config.dtype == "bfloat16"):
        total, facts = loss(batch, step)
    (total / num_passes).backward()
    return facts


def merge_facts(passes: Sequence[Any]) -> Any:
    """Return the values for the log of several passes, merged: integers added, floats averaged, entries one by one.

    >>> merge_facts([{"loss": 1.0, "load": [1, 2]}, {"loss": 3.0, "load": [0, 5]}])
    {'loss': 2.0, 'load': [1, 7]}
    """
    first = passes[0]
    if isinstance(first, dict):
        return {name: merge_facts([each[name] for each in passes]) for name in first}
    if isinstance(first, list):
        return [merge_facts(entries) for entries in zip(*passes, strict=True)]
    return sum(passes) if isinstance(first, int) else sum(passes) / len(passes)
