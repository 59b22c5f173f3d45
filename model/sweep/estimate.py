"""Estimate a sweep before it runs: tokens, time and bytes."""

import dataclasses
import tempfile
import time
from pathlib import Path

from model.sweep.parts import write_part
from model.sweep.plan import Plan
from model.sweep.routing import Routing, encode
from model.sweep.run import plan_sweep
from model.sweep.settings import Settings, Shard
from model.sweep.source import Source, open_source
from model.sweep.sweeper import Sweeper
from model.sweep.texts import Document

_SAMPLE = 8_192  # tokens that are routed for the estimate


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a sweep takes.

    Attributes:
        documents, tokens, shards: of the sweep.
        bad: documents that cannot be routed.
        sample: tokens that were routed for the rate.
        rate: tokens per second.
        num_bytes: size of the folder at most, as if its sums grew with the tokens.
    """

    documents: int
    tokens: int
    shards: int
    bad: int
    sample: int
    rate: float
    num_bytes: int


def estimate(settings: Settings) -> Estimate:
    """Plan a sweep, route a few documents of its largest shard, and return the estimate; write nothing.

    Raises:
        ValueError, OSError: see `model.sweep.run.sweep`.
    """
    source = open_source(settings)
    planned = plan_sweep(settings, source, lambda done, total: None)
    sample, seconds, num_bytes = _measured(planned, source)
    return Estimate(
        planned.documents,
        planned.tokens,
        len(planned.settings.shards),
        planned.bad,
        sample,
        sample / seconds,
        round(num_bytes * max(1.0, planned.tokens / sample)),
    )


def _measured(planned: Plan, source: Source) -> tuple[int, float, int]:
    """Return the tokens, seconds and bytes of a sample."""
    sweeper = Sweeper(planned.settings, source)
    shard: Shard = max(planned.settings.shards, key=lambda each: each.tokens)
    documents, tokens = [], 0
    for document in sweeper.documents(shard):
        if isinstance(document, Document) and tokens < _SAMPLE:
            documents.append(document)
            tokens += len(encode(source.tokenizer, document))
    began = time.monotonic()
    routing = Routing(sweeper.loaded, documents, shard.first, check=False)
    seconds = time.monotonic() - began
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.parquet"
        write_part(path, routing.tables())
        return routing.summary(0, seconds).tokens, max(seconds, 1e-9), path.stat().st_size
