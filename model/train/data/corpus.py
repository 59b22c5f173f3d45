"""Reads a corpus folder: gzipped JSON lines, one or several files per stream.

A record holds `text`, `domain`, `lang`, `source` and `license`. All records of a domain and language are a stream,
named `domain.lang`: files named `stories.en.00` and `stories.en.01` hold the stream `stories.en`.
"""

import dataclasses
import gzip
import json
import random
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

SUFFIX = ".jsonl.gz"


class CorpusError(ValueError):
    """A corpus folder, file or record is unusable."""


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One text of the corpus with its origin."""

    text: str
    domain: str
    lang: str
    source: str
    license: str

    @property
    def stream(self) -> str:
        """Name of the record's stream, for example `code.python`."""
        return f"{self.domain}.{self.lang}"


def corpus_files(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Return the files of each stream, streams and files in alphabetical order.

    Raises:
        CorpusError: the folder is missing or holds no corpus file.
    """
    if not folder.is_dir():
        raise CorpusError(f"{folder} is not a folder")
    streams: dict[str, list[Path]] = {}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        domain_lang = ".".join(path.name.removesuffix(SUFFIX).split(".")[:2])
        streams.setdefault(domain_lang, []).append(path)
    if not streams:
        raise CorpusError(f"{folder} holds no *{SUFFIX} file")
    return {stream: tuple(paths) for stream, paths in streams.items()}


def read_records(path: Path) -> Iterator[Record]:
    """Yield the records of one file, in order.

    Raises:
        CorpusError: the file is damaged, or a line is not a record; the message names the line.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                yield _record(line, f"{path.name}, line {number}")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise CorpusError(f"{path.name} is damaged: {error}") from error


def _record(line: str, location: str) -> Record:
    try:
        fields = json.loads(line)
        return Record(*(fields[field.name] for field in dataclasses.fields(Record)))
    except (ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{location} is not a record of a corpus ({error!r})") from error


def read_stream(paths: tuple[Path, ...]) -> Iterator[Record]:
    """Yield the records of all files of a stream."""
    for path in paths:
        yield from read_records(path)


def sampling_shares(sizes: Mapping[str, int], factors: Mapping[str, float] = {}) -> dict[str, float]:
    """Return the share of each stream in the training windows, in proportion to sqrt(bytes of the stream) x its factor.

    The shares sum to 1, or are all 0 if every stream is empty or has the factor 0.

    Args:
        sizes: bytes of each stream.
        factors: stream -> factor, for streams to draw more or less often than their size gives; default 1.
    """
    weights = {name: size**0.5 * factors.get(name, 1.0) for name, size in sizes.items()}
    total = sum(weights.values())
    return {name: weight / total if total else 0.0 for name, weight in weights.items()}


def balanced_sample(streams: dict[str, tuple[Path, ...]], num_bytes: int, seed: int = 0) -> Iterator[str]:
    """Yield about `num_bytes` of texts; the bytes of a stream are in proportion to the square root of its size.

    A stream that is smaller than its share is yielded whole, once. The choice of texts depends only on `seed`.
    """
    texts = {stream: [record.text for record in read_stream(paths)] for stream, paths in streams.items()}
    sizes = {stream: sum(len(text.encode()) for text in group) for stream, group in texts.items()}
    total = sum(size**0.5 for size in sizes.values())
    for stream, group in texts.items():
        remaining = num_bytes * sizes[stream] ** 0.5 / total
        random.Random(f"{seed} {stream}").shuffle(group)
        for text in group:
            if remaining <= 0:
                break
            remaining -= len(text.encode())
            yield text
