"""Documents from files: JSONL, Parquet, and plain text, each perhaps compressed by gzip.

A row of a JSONL or Parquet file is a document; a plain file is one document. A row that is no usable text is returned
as `Bad` with its reason, and counts in the numbering, so a document keeps its number.
"""

import dataclasses
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from model.atlas.schema import LABELS
from model.sweep.settings import Settings, SweepError

MOST_BYTES = 4_000_000  # of a document; a record of JSONL may have twice as many, because of escapes
TEXT = "text"
KEYS = {"domain": ("domain",), "language": ("language", "lang"), "source": ("source",)}  # the first that is there
_ROWS, _PLAIN = (".jsonl", ".ndjson", ".parquet"), (".txt", ".md")
_BATCH = 64  # rows of Parquet that are read at a time
_SKIPPED = 1 << 20  # bytes of an endless line that are read at a time


@dataclasses.dataclass(frozen=True)
class Document:
    """A text with its labels; None: it has no such label."""

    text: str
    domain: str | None = None
    language: str | None = None
    source: str | None = None


@dataclasses.dataclass(frozen=True)
class Bad:
    """A row that is no usable document, and why."""

    reason: str


def find_files(paths: tuple[Path, ...]) -> list[Path]:
    """Return the input files: each path, or for a folder the files in it with a known ending, sorted by name.

    Raises:
        SweepError: a path does not exist, or a folder holds no such file.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise SweepError(f"{path} does not exist")
        inside = sorted(each for each in path.rglob("*") if each.is_file() and _ending(each) in (*_ROWS, *_PLAIN))
        if path.is_dir() and not inside:
            raise SweepError(f"{path} holds no file that ends in {', '.join((*_ROWS, *_PLAIN))}, or in these and .gz")
        files += inside if path.is_dir() else [path]
    return files


def _ending(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix


def read_documents(path: Path, settings: Settings) -> Iterator[Document | Bad]:
    """Return the documents of a file in order.

    Raises:
        SweepError: the file is damaged, or not of the format that its ending says.
        OSError: it cannot be read.
    """
    try:
        if _ending(path) == ".parquet":
            yield from _parquet(path, settings)
        elif _ending(path) in _ROWS:
            yield from _jsonl(path, settings)
        else:
            yield _plain(path, settings)
    except (EOFError, zlib.error, gzip.BadGzipFile, pa.ArrowException) as error:
        raise SweepError(f"{path} is damaged: {str(error).splitlines()[0]}") from None


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _jsonl(path: Path, settings: Settings) -> Iterator[Document | Bad]:
    with _open(path) as file:
        number = 0
        while line := file.readline(2 * MOST_BYTES + 1):
            number += 1
            if len(line) > 2 * MOST_BYTES:
                _skip_line(file)
                yield _too_long(f"line {number}")
                continue
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                if number == 1:
                    raise SweepError(f"{path} is not JSONL: line 1 is no JSON object")
                yield Bad(f"line {number} is no JSON object")
                continue
            yield _document(row, settings)


def _skip_line(file: BinaryIO) -> None:
    while (piece := file.readline(_SKIPPED)) and not piece.endswith(b"\n"):
        pass


def _parquet(path: Path, settings: Settings) -> Iterator[Document | Bad]:
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if (text := dict(settings.keys).get(TEXT, TEXT)) not in names:
            raise SweepError(f"{path} has no column {text!r}; it has {', '.join(names)[:200]}")
        wanted = {text, *(key for label in LABELS for key in _keys(label, settings))}
        for batch in file.iter_batches(_BATCH, columns=[name for name in names if name in wanted]):
            for row in batch.to_pylist():
                yield _document(row, settings)


def _plain(path: Path, settings: Settings) -> Document | Bad:
    with _open(path) as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        return _too_long("the file")
    try:
        return _document({TEXT: content.decode("utf-8-sig")}, settings, TEXT)
    except UnicodeDecodeError as error:
        return Bad(f"the file is not UTF-8 text (byte {error.start})")


def _document(row: Mapping[str, Any], settings: Settings, text_key: str | None = None) -> Document | Bad:
    text = row.get(text_key or dict(settings.keys).get(TEXT, TEXT))
    if not isinstance(text, str):
        return Bad(f"it has no text under the key {dict(settings.keys).get(TEXT, TEXT)!r}")
    if not text.strip():
        return Bad("its text is empty")
    if "\0" in text:
        return Bad(f"its text is binary: character {text.index(chr(0)) + 1} is a zero byte")
    if len(text.encode(errors="replace")) > MOST_BYTES:
        return _too_long("its text")
    return Document(text, *(_label(row, label, settings) for label in LABELS))


def _label(row: Mapping[str, Any], label: str, settings: Settings) -> str | None:
    if (fixed := dict(settings.fixed).get(label)) is not None:
        return fixed
    values = (row.get(key) for key in _keys(label, settings))
    return next((str(value) for value in values if isinstance(value, str | int) and str(value)), None)


def _keys(label: str, settings: Settings) -> tuple[str, ...]:
    key = dict(settings.keys).get(label)
    return KEYS[label] if key is None else (key,)


def _too_long(what: str) -> Bad:
    return Bad(f"{what} is longer than {MOST_BYTES / 1e6:.0f} MB; split it into documents")
