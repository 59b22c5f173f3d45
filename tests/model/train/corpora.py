"""A miniature corpus and its shards, for the tests of training."""

import gzip
import json
from pathlib import Path

from model.train.bpe import train_vocabulary
from model.train.corpus import corpus_files
from model.train.shards import write_shards

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
