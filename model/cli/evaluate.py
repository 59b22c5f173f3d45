"""The command `evaluate`: measure a model on held-out text."""

from pathlib import Path

import click

from model.cli.options import FILE, FOLDER
from model.cli.terminal import echo


@click.command("evaluate")
@click.argument("model")
@click.option("--heldout", type=FOLDER, required=True)
@click.option(
    "--shards", type=FOLDER, help="Shards of the training; also report balance weighted by their sampling shares."
)
@click.option("--stage", type=FILE, help="TOML file of the training stage; its mixture changes these shares.")
@click.option("--window", type=click.IntRange(2), help="Tokens per piece, including BOS; default: the model's context.")
@click.option("--max-bytes", type=click.IntRange(1), help="Read about this many bytes from the start of each stream.")
@click.option("--device", default="auto", show_default=True)
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", help="dtype of the matrix products."
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="JSON file for all numbers.")
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
    """Measure bits per byte, load balance and specialisation of MODEL on held-out text."""
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
        raise click.UsageError("--stage changes the sampling shares of --shards; give --shards too")
    keep_freed_memory()
    folder = find_model(model)
    weights = mixture(shards, load_config(stage)[1].mixture if stage else {}) if shards else None
    loaded = load_model(folder, choose_device(device, for_training=True), torch.float32)
    tokenizer = Tokenizer.load(folder)
    streams, pieces = read_pieces(heldout, tokenizer, window or loaded.config.max_positions, max_bytes)
    summary = summarise(evaluate(loaded, streams, pieces, getattr(torch, dtype)), weights)
    if out is not None:
        out.write_text(json.dumps(summary, indent=1))
    echo(as_markdown(summary))
