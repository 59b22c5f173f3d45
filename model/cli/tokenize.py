"""The command `tokenize`: turn a corpus into shards."""

from pathlib import Path

import click
from tqdm import tqdm

from model.cli.options import FILE, FOLDER, NEW_FOLDER
from model.cli.terminal import echo


@click.command("tokenize")
@click.option("--corpus", type=FOLDER, required=True, help="Folder of DOMAIN.LANG.jsonl.gz files.")
@click.option("--out", type=NEW_FOLDER, required=True, help="Folder for the shards, their index and tokenizer.json.")
@click.option("--tokenizer", type=FILE, help="tokenizer.json to use; without it, one is trained on the corpus.")
@click.option("--vocab-size", default=8192, show_default=True, help="Entries of the trained tokenizer.")
@click.option("--sample-mb", default=24, show_default=True, help="Megabytes of text to train the tokenizer on.")
@click.option(
    "--split-share", default=0.0, help="Share of the tokens that join punctuation and line breaks to split in two."
)
def tokenize_command(
    corpus: Path, out: Path, tokenizer: Path | None, vocab_size: int, sample_mb: int, split_share: float
) -> None:
    """Tokenise a corpus into shards, which training reads."""
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
    echo(f"{total:,} tokens of {len(index['streams'])} streams in {out}")
