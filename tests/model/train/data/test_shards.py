"""Shards hold every record between BOS and EOS, and the index says what they hold."""

import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from model.train.data.corpus import CorpusError, corpus_files, read_stream
from model.train.data.shards import write_shards
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


def test_joined_tokens_are_split_when_asked_for(tmp_path: Path) -> None:
    shards = write_tiny_shards(tmp_path)
    streams = corpus_files(tmp_path / "corpus")
    index = write_shards(streams, shards / "tokenizer.json", tmp_path / "split", split_share=1.0)
    tokenizer = tokenizers.Tokenizer.from_file(str(shards / "tokenizer.json"))
    whole, split = (np.fromfile(folder / "code.python.bin", np.uint16) for folder in (shards, tmp_path / "split"))
    assert len(split) == index["streams"]["code.python"]["tokens"] > len(whole)
    assert tokenizer.decode(split.tolist()) == tokenizer.decode(whole.tolist())
    assert index["split_share"] == 1.0


def test_share_to_split_is_checked_before_anything_is_written(tmp_path: Path) -> None:
    shards = write_tiny_shards(tmp_path)
    with pytest.raises(CorpusError, match="from 0 to 1, not 2"):
        write_shards(corpus_files(tmp_path / "corpus"), shards / "tokenizer.json", tmp_path / "none", split_share=2)
    assert not (tmp_path / "none").exists()
