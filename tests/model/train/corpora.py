"""A miniature corpus and its shards, for the tests of training."""

import gzip
import json
from pathlib import Path

import torch
from click.testing import CliRunner

from model.checkpoint.weights import save_model
from model.cli.tokenize import tokenize_command
from model.train.data.bpe import train_vocabulary
from model.train.data.corpus import corpus_files
from model.train.data.shards import write_shards
from tests.models import random_model, tiny_config

SENTENCES = {
    "stories.en": "Once upon a time a small fox ran over the hill and slept. ",
    "code.python": "def add(left, right):\n    return left + right\n",
}


def write_corpus(folder: Path, repeats: int = 12) -> Path:
    """Two streams, stories in two files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("stories.en.00", "stories.en.01", "code.python"):
        domain, lang = name.split(".")[:2]
        sentence = SENTENCES[f"{domain}.{lang}"]
        with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            for number in range(repeats):
                text = f"{number} {sentence * (1 + number % 3)}"
                origin = {"domain": domain, "lang": lang, "source": f"source of {domain}", "license": "CC0-1.0"}
                file.write(json.dumps({"text": text} | origin) + "\n")
    return folder


def write_tiny_shards(folder: Path) -> Path:
    """A corpus, a tokenizer of 320 entries and the shards, under `folder`; returns the shards' folder."""
    streams = corpus_files(write_corpus(folder / "corpus"))
    train_vocabulary(SENTENCES.values(), 320, show_progress=False).save(str(folder / "tokenizer.json"))
    write_shards(streams, folder / "tokenizer.json", folder / "shards")
    return folder / "shards"


def tokenised_corpus(folder: Path) -> Path:
    """A corpus and, by the command, its shards with a tokenizer of 300 entries; returns the shards' folder."""
    corpus, shards = write_corpus(folder / "corpus"), folder / "shards"
    arguments = ["--corpus", str(corpus), "--out", str(shards), "--vocab-size", "300"]
    assert CliRunner().invoke(tokenize_command, arguments, catch_exceptions=False).exit_code == 0
    return shards


def write_tuning_folder(folder: Path, rows: list[dict[str, str]], text: list[str], **changes: object) -> Path:
    """A random model with a vocabulary learned on `text` in `start`, and rows to train on and held out beside it."""
    start = folder / "start"
    shape = tiny_config(num_layers=2, max_positions=32, tie_embeddings=True, **changes)
    save_model(random_model(shape), start, torch.float32)
    train_vocabulary(text * 5, 320, show_progress=False).save(str(start / "tokenizer.json"))
    for name in ("train", "heldout"):
        write_rows(folder / f"{name}.jsonl.gz", rows)
    return folder


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    """A gzipped JSON-lines file, its folder made when missing."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
