"""The loop of pre-training and of training on more text: steps, evaluations, alarms, saved states, final model."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from model.checkpoint.device import choose_device
from model.checkpoint.tokenizer import Tokenizer
from model.network.config import ModelConfig
from model.network.transformer import Transformer
from model.train.autocast import norm_warning_ignored
from model.train.config import ContinueConfig, ExtendConfig, TrainConfig
from model.train.data.windows import open_windows
from model.train.evaluation.progress import Evaluator
from model.train.export import export
from model.train.log import StepLog
from model.train.pretraining.initial_model import initial_model
from model.train.pretraining.trainer import Trainer
from model.train.state import STATE
from model.train.stop import stop_on_signal
from model.train.watch import Watch


def is_evaluated(config: TrainConfig, step: int) -> bool:
    """Whether a step ends with an evaluation; the first, the last and every `look_steps`-th step do."""
    return step in (1, config.total_steps) or step % config.look_steps == 0


def train(
    start: ModelConfig | ContinueConfig | ExtendConfig,
    config: TrainConfig,
    shards: Path,
    out: Path,
    resume: bool = False,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
    heldout: Path | None = None,
) -> Trainer:
    """Train up to `total_steps` or until a signal; save the state every `checkpoint_steps` steps and at the end.

    After the last of the `total_steps`, write the model to `out/model`.

    Args:
        start: configuration of a new model, or the base model.
        config: all other settings.
        shards: folder made by the tokenize command.
        out: folder of the run, created if it is missing.
        resume: continue from the state in `out`; settings may differ from before, but not the model's configuration.
        report: called with each step's log line.
        heldout: folder of held-out streams, evaluated every `look_steps` steps.

    Returns:
        The trainer after its last step.
    """
    out.mkdir(parents=True, exist_ok=True)
    trainer = _open_trainer(start, config, shards, out, resume)
    shape, evaluator = trainer.model.config, None
    if heldout is not None:
        evaluator = Evaluator(heldout, Tokenizer.load(shards), config.sequence_length, config.look_bytes, shape)
    with norm_warning_ignored(), StepLog(out, trainer.steps_done) as log, stop_on_signal() as stopped:
        _run(trainer, evaluator, log, stopped, out, report)
    trainer.save(out)
    if trainer.steps_done >= config.total_steps:
        if config.start_share:
            blend(trainer.model, initial_model(start, config.seed), config.start_share)
        export(trainer.model, shards / "tokenizer.json", out / "model", config.store)
    return trainer


def _open_trainer(
    start: ModelConfig | ContinueConfig | ExtendConfig, config: TrainConfig, shards: Path, out: Path, resume: bool
) -> Trainer:
    """Return the trainer of a run before its first step, or with the state in `out` if the run is resumed."""
    model = initial_model(start, config.seed)
    device = choose_device(config.device, for_training=True)
    trainer = Trainer(model, config, open_windows(shards, config, model.config), device)
    if resume and (out / STATE).exists():
        trainer.load(out)
    elif config.roll_back_on_alarm:
        trainer.save(out)  # a roll-back may come before the first regular save
    return trainer


def _run(
    trainer: Trainer,
    evaluator: Evaluator | None,
    log: StepLog,
    stopped: Callable[[], bool],
    out: Path,
    report: Callable[[dict[str, Any]], None],
) -> None:
    """Train until the last step, a signal, or an alarm that ends the run."""
    config, shape, event = trainer.config, trainer.model.config, {}
    watch = Watch.after(shape, log.cut(trainer.steps_done))
    with ThreadPoolExecutor(config.workers) as executor:
        while trainer.steps_done < config.total_steps and not stopped():
            line = trainer.step(executor) | event
            if evaluator is not None and is_evaluated(config, trainer.steps_done):
                line |= evaluator.evaluate(trainer.model) | {"bias": trainer.biases()}
            line |= watch.check(line)
            if "alarms" in line and trainer.roll_backs < config.roll_back_on_alarm:
                event = roll_back(trainer, out, line)
                watch = Watch.after(shape, log.cut(trainer.steps_done))
                continue
            event = {}
            log.write(line)
            report(line)
            if "alarms" in line and (config.stop_on_alarm or config.roll_back_on_alarm):
                break
            if trainer.steps_done % config.checkpoint_steps == 0:
                trainer.save(out)


@torch.no_grad()
def blend(model: Transformer, start: Transformer, share: float) -> None:
    """Average a model's weights and biases with those of the model `start`, in place; `start` has weight `share`.

    A short run on other text makes a model better on that text and worse on other texts. Averaging with the initial
    model undoes more of the harm than of the gain.

    Source: Robust fine-tuning (Wortsman et al., arXiv 2109.01903), section 3.
    """
    before = start.state_dict()
    for name, tensor in model.state_dict().items():
        tensor.lerp_(before[name].to(tensor.device), share)


def roll_back(trainer: Trainer, out: Path, line: dict[str, Any]) -> dict[str, Any]:
    """Load the state in `out`, skip the batches since that state, and return the log entry.

    The roll-back changes nothing else: other batches from the same weights were enough for PaLM.

    Source: PaLM (arXiv 2204.02311), section 5.1.
    """
    skipped, roll_backs = trainer.skipped, trainer.roll_backs
    trainer.load(out)
    trainer.skipped, trainer.roll_backs = skipped + line["step"] - trainer.steps_done, roll_backs + 1
    return {"roll_back": {"from": line["step"], "to": trainer.steps_done, "said": line["alarms"]}}
