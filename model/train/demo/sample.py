"""The bundled sample text for the nano model: eight streams, read as bytes.

A token is a byte, so no tokenizer is needed; id 256 is BOS. `python -m model.train.demo.sample CORPUS` makes the sample
from the records of a corpus that are in the public domain.
"""

import functools
import gzip
import json
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from model.checkpoint.embedded import PRESETS
from model.train.data.corpus import SUFFIX, corpus_files, read_stream

FOLDER = PRESETS / "sample"
BOS = 256
VOCABULARY = 257
# Stream -> licences of the records that may go into the sample.
STREAMS = {
    "stories.en": ("Public domain", "CC0-1.0"),
    "drama.en": ("Public domain",),
    "literature.de": ("Public domain (markup CC-BY-4.0)",),
    "literature.es": ("Public domain (markup CC-BY-4.0)",),
    "literature.fr": ("Public domain",),
    "literature.ja": ("Public domain",),
    "literature.ru": ("Public domain",),
    "math.en": ("CC0-1.0",),
}
BYTES_PER_STREAM = 190_000


class ByteWindows:
    """Training windows of bytes, for `model.train.data.batches.Batches`; every stream is equally likely."""

    def __init__(self, sequence_length: int) -> None:
        self.sequence_length = sequence_length
        self.streams = sample()

    def batch(self, seed: int, step: int, num_sequences: int) -> Tensor:
        """Return the windows of one step, int64 [B, T + 1]; each begins with BOS."""
        generator, names = np.random.default_rng([seed, step]), list(self.streams)
        rows = []
        for pick in generator.integers(len(names), size=num_sequences):
            text = self.streams[names[pick]]
            start = generator.integers(len(text) - self.sequence_length)
            rows.append(np.concatenate([[BOS], text[start : start + self.sequence_length]]))
        return torch.from_numpy(np.stack(rows))


@functools.cache
def sample() -> dict[str, np.ndarray]:
    """Return the bytes of every stream, by name, [byte] int64."""
    streams = {}
    for name, paths in corpus_files(FOLDER).items():
        text = "\n\n".join(record.text for record in read_stream(paths))
        streams[name] = np.frombuffer(text.encode(), np.uint8).astype(np.int64)
    return streams


def write(corpus: Path, folder: Path) -> None:
    """Write the first records of each stream that have an allowed licence, up to about `BYTES_PER_STREAM` of text."""
    folder.mkdir(parents=True, exist_ok=True)
    files = corpus_files(corpus)
    for name, licences in STREAMS.items():
        lines, used = [], 0
        for record in read_stream(files[name]):
            if record.license in licences and used < BYTES_PER_STREAM:
                used += len(record.text.encode())
                fields = {"text": record.text, "domain": record.domain, "lang": record.lang}
                lines.append(
                    json.dumps(fields | {"source": record.source, "license": record.license}, ensure_ascii=False)
                )
        content = "\n".join(lines).encode() + b"\n"
        (folder / f"{name}{SUFFIX}").write_bytes(gzip.compress(content, 9, mtime=0))


@click.command()
@click.argument("corpus", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(corpus: Path) -> None:
    """Write the sample from CORPUS."""
    write(corpus, FOLDER)
    sizes = {path.name: path.stat().st_size for path in sorted(FOLDER.glob(f"*{SUFFIX}"))}
    click.echo(f"{sum(sizes.values()):,} bytes in {len(sizes)} files")


if __name__ == "__main__":
    main()
