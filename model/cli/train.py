"""The command `train`: run one stage of training from a TOML file."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from model.cli.options import FILE, FOLDER, NEW_FOLDER
from model.cli.terminal import echo

if TYPE_CHECKING:
    from model.train.config import Start, TrainConfig
    from model.train.minimise import Report


def _list_stages(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    from model.train.stages import listed

    echo("\n".join(listed()))
    context.exit()


@click.command("train")
@click.argument("config", type=FILE)
@click.option("--corpus", type=FOLDER, required=True, help="Folder made by the tokenize command, or a folder of pairs.")
@click.option("--out", type=NEW_FOLDER, required=True, help="Folder of the run: state, log, and the finished model.")
@click.option("--start", help="Embedded name or folder of the base model, instead of the one in CONFIG.")
@click.option("--resume", is_flag=True, help="Resume from the state in the folder of the run.")
@click.option("--heldout", type=FOLDER, help="Folder of held-out text or pairs, evaluated at intervals and logged.")
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_stages,
    help="Print the training stages of the embedded models in order, with their commands.",
)
def train_command(config: Path, corpus: Path, out: Path, start: str | None, resume: bool, heldout: Path | None) -> None:
    """Train a model as the TOML file CONFIG says; SIGTERM or Ctrl-C saves the state and ends the run.

    [model] starts from random weights, [continue] from a base model, and [extend] also lengthens its context.

    [indexer] and [mtp] add a part to a base model and train only that part. [instruct], [preference], [reward] and
    [grpo] tune a base model on pairs: CORPUS then holds train.jsonl.gz and heldout.jsonl.gz, and HELDOUT may hold other
    held-out pairs.
    """
    from model.train.allocator import keep_freed_memory
    from model.train.config import GrpoConfig, load_config

    stage, settings = load_config(config)
    if start is not None:
        stage = _with_base_model(stage, start, config)
    if resume and isinstance(stage, GrpoConfig):
        raise click.UsageError(
            "a run with [grpo] cannot be resumed, because its state lacks the drawn answers; leave out --resume"
        )
    keep_freed_memory()
    with tqdm(total=settings.total_steps, desc="training", unit="step") as bar:

        def report(line: dict[str, Any]) -> None:
            bar.update(line["step"] - bar.n)
            bar.set_postfix_str(f"loss {line['loss']:.3f}, {line['tokens_per_s']:.0f} tokens/s", refresh=False)

        message = _run(stage, settings, corpus, out, report, heldout, resume)
    echo(message)


def _with_base_model(stage: "Start", start: str, config: Path) -> "Start":
    """Return the stage with the base model of --start."""
    from model.network.config import ModelConfig

    if isinstance(stage, ModelConfig):
        raise click.UsageError(f"{config} starts from random weights; --start needs a table other than [model]")
    return dataclasses.replace(stage, start=start)


def _run(
    stage: "Start",
    settings: "TrainConfig",
    corpus: Path,
    out: Path,
    report: "Report",
    heldout: Path | None,
    resume: bool,
) -> str:
    """Run a stage and return the line to print when it ends."""
    from model.network.config import ModelConfig
    from model.train.config import ContinueConfig, ExtendConfig, GrpoConfig, IndexerConfig, MtpConfig
    from model.train.minimise import Stopped
    from model.train.pretraining.loop import train

    if isinstance(stage, ModelConfig | ContinueConfig | ExtendConfig):
        trainer = train(stage, settings, corpus, out, resume, report, heldout)
        return f"{trainer.steps_done} of {settings.total_steps} steps done; {out}"
    run_stage, done = _later_stages()[type(stage)]
    options: dict[str, Any] = {} if isinstance(stage, IndexerConfig | MtpConfig) else {"heldout": heldout}
    options |= {} if isinstance(stage, GrpoConfig) else {"resume": resume}
    try:
        run_stage(stage, settings, corpus, out, report, **options)
    except Stopped as stopped:
        return f"{stopped}; {out}"
    return f"{done} for {settings.total_steps} steps; {out / 'model'}"


def _later_stages() -> "dict[type, tuple[Callable[..., None], str]]":
    """Return the function of each stage after pre-training, and the line to print when the stage is done."""
    from model.train import config
    from model.train.parts.indexer_warm_up import train_indexers
    from model.train.parts.prediction_module import train_module
    from model.train.post_training.grpo import reinforce
    from model.train.post_training.instruct import tune
    from model.train.post_training.preference import align
    from model.train.post_training.reward import train_reward

    return {
        config.IndexerConfig: (train_indexers, "indexers were trained"),
        config.MtpConfig: (train_module, "the module was trained"),
        config.InstructConfig: (tune, "the model was tuned"),
        config.PreferenceConfig: (align, "the model was aligned"),
        config.RewardConfig: (train_reward, "the reward model was trained"),
        config.GrpoConfig: (reinforce, "right answers were reinforced"),
    }
