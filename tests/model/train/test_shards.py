"""Shards hold every record between BOS and EOS, and the index says what they hold."""

import json
from pathlib import Path

import numpy as np
import tokenizers

from model.train.corpus import corpus_files, read_stream
from tests.model.train.corpora import write_tiny_shards


def test_records_stand_between_bos_and_eos(tmp_path: Path) -> None:
    shards = write_tiny_shards(tmp_path)
    ids = np.fromfile(shards / "code.python.bin", np.uint16)
    tokenizer = tokenizers.Tokenizer.from_file(str(shards / "tokenizer.json"))
    records = [record.text for record in read_stream(corpus_files(tmp_path / "corpus")["code.python"])]
    starts, ends = np.flatnonzero(ids == 0), np.flatnonzero(ids == 1)
    assert [tokenizer.decode(ids[a + 1 : b].tolist()) for a, b in zip(starts, ends, strict=True)] == records
    assert ends[-1] == len(ids) - 1


def test_index_counts_and_names_sources(tmp_path: Path) -> None:
    shards = write_tiny_shards(tmp_path)
    stream = json.loads((shards / "index.json").read_text())["streams"]["stories.en"]
    texts = [record.text for record in read_stream(corpus_files(tmp_path / "corpus")["stories.en"])]
    assert (stream["records"], stream["bytes"]) == (24, sum(map(len, texts)))
    assert stream["tokens"] == (shards / "stories.en.bin").stat().st_size // 2
    assert stream["sources"] == [{"source": "source of stories", "license": "CC0-1.0", "bytes": stream["bytes"]}]
