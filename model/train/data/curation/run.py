"""Curates a corpus folder: reads records, applies the steps to each, and writes kept records in the same layout."""

import dataclasses
import gzip
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from model.train.data.corpus import CorpusError, Record, corpus_files, read_records, read_stream
from model.train.data.curation.contamination import HeldOut
from model.train.data.curation.safety import labels
from model.train.data.curation.steps import Dropped, Item, Step, pipeline
from model.train.data.curation.tally import Tally

REPORT = "report.json"


def curate(
    corpus: Path,
    out: Path,
    heldout: Path | None = None,
    progress: Callable[[int], object] = lambda num_bytes: None,
) -> dict[str, Any]:
    """Write the curated corpus and its report to a folder, and return the report.

    Args:
        corpus: folder of DOMAIN.LANG.jsonl.gz files.
        out: folder for the report and the kept records. Each file of the corpus gives a file of the same name, unless
            no record is kept; existing files are replaced.
        heldout: folder of held-out streams, in the same layout; texts that overlap with them are dropped.
        progress: called with the compressed size of each finished file.

    Returns:
        The report, as `Tally.report` describes it.

    Raises:
        CorpusError: a folder or record is unusable, `out` is one of the inputs, or datasketch is missing; nothing is
            written.
    """
    if out.resolve() in {folder.resolve() for folder in (corpus, heldout) if folder}:
        raise CorpusError(f"{out} is an input; give another folder for the output")
    streams = corpus_files(corpus)
    steps = pipeline(None if heldout is None else HeldOut(_all_records(heldout)))
    tally = Tally(steps)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as name:
        folder = Path(name)
        files = []
        for stream, paths in streams.items():
            for path in paths:
                files.append(_describe(path))
                _write(folder / path.name, _kept(read_records(path), stream, steps, tally))
                progress(path.stat().st_size)
        report = tally.report(files)
        (folder / REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
        _move(folder, out)
    return report


def _all_records(folder: Path) -> Iterator[Record]:
    for paths in corpus_files(folder).values():
        yield from read_stream(paths)


def _kept(records: Iterator[Record], stream: str, steps: list[Step], tally: Tally) -> Iterator[Record]:
    """Yield the records that pass every step, with the changes that the steps made."""
    for record in records:
        item = Item(record)
        tally.arrived(item, stream)
        if (kept := _pass(item, stream, steps, tally)) is not None:
            tally.left(kept, stream, labels(kept.record.text))
            yield kept.record


def _pass(item: Item, stream: str, steps: list[Step], tally: Tally) -> Item | None:
    for step in steps:
        result = step.take(item)
        if isinstance(result, Dropped):
            return tally.dropped(step, item, stream, result)
        tally.passed(step, item, result)
        item = result
    return item


def _write(path: Path, records: Iterator[Record]) -> None:
    """Write records as gzipped JSON lines; the bytes depend only on the records. Without records, write no file."""
    is_empty = True
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
        for record in records:
            is_empty = False
            file.write(json.dumps(dataclasses.asdict(record), ensure_ascii=False).encode() + b"\n")
    if is_empty:
        path.unlink()


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest}


def _move(folder: Path, out: Path) -> None:
    out.mkdir(exist_ok=True)
    for path in sorted(folder.iterdir()):
        shutil.move(path, out / path.name)
