"""The commands `curate`, `evaluate`, `tokenize` and `train`; torch is imported only when one of them runs."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command("curate")
@click.option("--corpus", type=FOLDER, required=True, help="Folder of DOMAIN.LANG.jsonl.gz files.")
@click.option(
    "--out", type=NEW_FOLDER, required=True, help="Folder for what is kept, in the same layout, and report.json."
)
@click.option("--heldout", type=FOLDER, help="Held-out streams; what overlaps with them is dropped.")
def curate_command(corpus: Path, out: Path, heldout: Path | None) -> None:
    """Clean a corpus: rules of quality, duplicates, held-out text; a report says what was dropped and why."""
    from model.train.data.corpus import corpus_files
    from model.train.data.curation.run import curate

    num_bytes = sum(path.stat().st_size for paths in corpus_files(corpus).values() for path in paths)
    with tqdm(total=num_bytes, desc="curating", unit="B", unit_scale=True) as bar:
        report = curate(corpus, out, heldout, bar.update)
    came, went = report["in"], report["out"]
    for step in report["steps"]:
        for rule in step["dropped"]:
            click.echo(f"{step['name']}: {rule['rule']}: {rule['records']:,} records, {rule['bytes']:,} bytes dropped")
    click.echo(
        f"{went['records']:,} of {came['records']:,} records, {went['bytes']:,} of {came['bytes']:,} bytes; {out}"
    )


@click.command("tokenize")
@click.option("--corpus", type=FOLDER, required=True, help="Folder of DOMAIN.LANG.jsonl.gz files.")
@click.option("--out", type=NEW_FOLDER, required=True, help="Folder for the shards, their index and tokenizer.json.")
@click.option("--tokenizer", type=FILE, help="A tokenizer.json to use; without it one is trained on the corpus.")
@click.option("--vocab-size", default=8192, show_default=True, help="Entries of a tokenizer trained here.")
@click.option("--sample-mb", default=24, show_default=True, help="Megabytes of text to train it on.")
@click.option("--split-share", default=0.0, help="Share of tokens of punctuation and line breaks to split in two.")
def tokenize_command(
    corpus: Path, out: Path, tokenizer: Path | None, vocab_size: int, sample_mb: int, split_share: float
) -> None:
    """Tokenise a corpus once into memory-mapped shards."""
    from model.train.data.bpe import train_vocabulary
    from model.train.data.corpus import balanced_sample, corpus_files
    from model.train.data.shards import write_shards

    streams = corpus_files(corpus)
    out.mkdir(parents=True, exist_ok=True)
    if tokenizer is None:
        tokenizer = out / "tokenizer.json"
        train_vocabulary(balanced_sample(streams, sample_mb * 1_000_000), vocab_size).save(str(tokenizer))
    num_bytes = sum(path.stat().st_size for paths in streams.values() for path in paths)
    with tqdm(total=num_bytes, desc="tokenising", unit="B", unit_scale=True) as bar:
        index = write_shards(streams, tokenizer, out, bar.update, split_share)
    total = sum(stream["tokens"] for stream in index["streams"].values())
    click.echo(f"{total:,} tokens of {len(index['streams'])} streams in {out}")


def _list_stages(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    from model.train.stages import listed

    click.echo("\n".join(listed()))
    context.exit()


@click.command("train")
@click.argument("config", type=FILE)
@click.option("--corpus", type=FOLDER, required=True, help="Folder made by the tokenize command.")
@click.option("--out", type=NEW_FOLDER, required=True, help="Folder of the run: state, log, and at the end the model.")
@click.option("--start", help="Embedded name or folder of the model to begin with, in place of the one in CONFIG.")
@click.option("--resume", is_flag=True, help="Continue from the state in the folder of the run.")
@click.option(
    "--heldout", type=FOLDER, help="Held-out text or pairs, looked at now and then; the log keeps what was seen."
)
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_stages,
    help="Print the stages of the embedded models in order, and the command of each.",
)
def train_command(config: Path, corpus: Path, out: Path, start: str | None, resume: bool, heldout: Path | None) -> None:
    """Train a model as a TOML file says; SIGTERM or Ctrl-C saves and ends it.

    [model] begins with drawn weights, [continue] with a trained model's, [extend] with those and a longer context.

    A file with [indexer] or [mtp] adds to a trained model and trains what it added.
    One with [instruct], [preference], [reward] or [grpo] tunes a trained model; CORPUS then holds pairs, train and
    heldout.jsonl.gz. HELDOUT may hold other pairs, whose answers are compared.
    """
    from model.network.config import ModelConfig
    from model.train.allocator import keep_freed_memory
    from model.train.config import (
        ContinueConfig,
        ExtendConfig,
        GrpoConfig,
        IndexerConfig,
        InstructConfig,
        MtpConfig,
        PreferenceConfig,
        RewardConfig,
        load_config,
    )
    from model.train.minimise import Stopped
    from model.train.parts.indexer_warm_up import train_indexers
    from model.train.parts.prediction_module import train_module
    from model.train.post_training.grpo import reinforce
    from model.train.post_training.instruct import tune
    from model.train.post_training.preference import align
    from model.train.post_training.reward import train_reward
    from model.train.pretraining.loop import train

    stages: dict[type, tuple[Callable[..., None], str]] = {
        IndexerConfig: (train_indexers, "indexers were trained"),
        MtpConfig: (train_module, "the module was trained"),
        InstructConfig: (tune, "the model was tuned"),
        PreferenceConfig: (align, "the model was aligned"),
        RewardConfig: (train_reward, "the reward model was trained"),
        GrpoConfig: (reinforce, "right answers were reinforced"),
    }
    shape, settings = load_config(config)
    if start is not None:
        if isinstance(shape, ModelConfig):
            raise click.UsageError(f"{config} begins with drawn weights; --start needs another table than [model]")
        shape = dataclasses.replace(shape, start=start)
    keep_freed_memory()
    with tqdm(total=settings.total_steps, desc="training", unit="step") as bar:

        def report(line: dict[str, Any]) -> None:
            bar.update(line["step"] - bar.n)
            bar.set_postfix_str(f"loss {line['loss']:.3f}, {line['tokens_per_s']:.0f} tokens/s", refresh=False)

        if type(shape) in stages:
            run_stage, done = stages[type(shape)]
            more: dict[str, Any] = {} if isinstance(shape, IndexerConfig | MtpConfig) else {"heldout": heldout}
            if resume and isinstance(shape, GrpoConfig):
                raise click.UsageError("a run with [grpo] cannot be resumed: its last answers are in no state")
            if resume:
                more["resume"] = True
            try:
                run_stage(shape, settings, corpus, out, report, **more)
            except Stopped as stopped:
                return click.echo(f"{stopped}; {out}")
            bar.close()
            return click.echo(f"{done} for {settings.total_steps} steps; {out / 'model'}")
        assert isinstance(shape, ModelConfig | ContinueConfig | ExtendConfig)
        trainer = train(shape, settings, corpus, out, resume, report, heldout)
    return click.echo(f"{trainer.steps_done} of {settings.total_steps} steps done; {out}")


@click.command("evaluate")
@click.argument("model")
@click.option("--heldout", type=FOLDER, required=True)
@click.option("--shards", type=FOLDER, help="Weigh as in training on these: by the square root of size.")
@click.option("--stage", type=FILE, help="The stage of training whose mixture counts in that, too.")
@click.option("--window", type=click.IntRange(2), help="Tokens in a piece, BOS included; default: the model's context.")
@click.option("--max-bytes", type=click.IntRange(1), help="Only about the first so many bytes of each stream.")
@click.option("--device", default="auto", show_default=True)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", help="Of products.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures there as JSON.")
def evaluate_command(
    model: str,
    heldout: Path,
    shards: Path | None,
    stage: Path | None,
    window: int | None,
    max_bytes: int | None,
    device: str,
    dtype: str,
    out: Path | None,
) -> None:
    """Bits per byte, load balance and specialisation of MODEL on held-out text."""
    import json

    import torch

    from model.checkpoint.device import choose_device
    from model.checkpoint.embedded import find_model
    from model.checkpoint.tokenizer import Tokenizer
    from model.checkpoint.weights import load_model
    from model.train.allocator import keep_freed_memory
    from model.train.config import load_config
    from model.train.data.windows import mixture
    from model.train.evaluation.heldout import evaluate, read_pieces
    from model.train.evaluation.heldout_report import as_markdown, summarise

    if stage is not None and shards is None:
        raise click.UsageError("--stage says how the streams of --shards are weighed; name those too")
    keep_freed_memory()
    folder = find_model(model)
    weights = mixture(shards, load_config(stage)[1].mixture if stage else {}) if shards else None
    loaded = load_model(folder, choose_device(device, for_training=True), torch.float32)
    tokenizer = Tokenizer.load(folder)
    streams, pieces = read_pieces(heldout, tokenizer, window or loaded.config.max_positions, max_bytes)
    summary = summarise(evaluate(loaded, streams, pieces, getattr(torch, dtype)), weights)
    if out is not None:
        out.write_text(json.dumps(summary, indent=1))
    click.echo(as_markdown(summary))
