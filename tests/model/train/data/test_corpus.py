"""Reading a corpus folder, and what is said of a damaged one."""

import gzip
from pathlib import Path

import pytest

from model.train.data.corpus import CorpusError, balanced_sample, corpus_files, read_records, read_stream
from tests.model.train.corpora import write_corpus


def test_files_of_a_stream_belong_together(tmp_path: Path) -> None:
    streams = corpus_files(write_corpus(tmp_path))
    assert {name: len(paths) for name, paths in streams.items()} == {"code.python": 1, "stories.en": 2}
    records = list(read_stream(streams["stories.en"]))
    assert len(records) == 24
    assert {record.stream for record in records} == {"stories.en"}


def test_sample_is_repeatable_and_bounded(tmp_path: Path) -> None:
    streams = corpus_files(write_corpus(tmp_path))
    sample = list(balanced_sample(streams, 1000))
    assert sample == list(balanced_sample(streams, 1000))
    assert sample != list(balanced_sample(streams, 1000, seed=1))
    assert 1000 <= sum(map(len, sample)) <= 1000 + 2 * 200


def test_sample_takes_a_small_stream_once(tmp_path: Path) -> None:
    streams = corpus_files(write_corpus(tmp_path))
    assert len(list(balanced_sample(streams, 10**9))) == 36


@pytest.mark.parametrize("line", ["not json", '{"text": "a"}', "[]"])
def test_line_that_is_no_record_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.b.jsonl.gz"
    path.write_bytes(gzip.compress(line.encode()))
    with pytest.raises(CorpusError, match=r"a\.b\.jsonl\.gz, line 1 "):
        list(read_records(path))


def test_cut_off_file_is_refused(tmp_path: Path) -> None:
    path = write_corpus(tmp_path) / "code.python.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorpusError, match="damaged"):
        list(read_records(path))


def test_folder_without_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="holds no"):
        corpus_files(tmp_path)
    with pytest.raises(CorpusError, match="not a folder"):
        corpus_files(tmp_path / "absent")
