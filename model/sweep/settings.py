"""What a sweep is asked to do, and what it plans. A worker gets all of it as one object, which can be pickled."""

import dataclasses
from pathlib import Path

from model.atlas.schema import LABELS

KEEP = ("examples", "ids", "bits")


class SweepError(ValueError):
    """The sweep cannot start or go on; the message says why, and what to do."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """Consecutive documents of one input file.

    Attributes:
        file: number of the input file.
        first: number of the first document in its file; documents that fail count, too.
        count: number of documents.
        tokens: their counted tokens, as planned.
    """

    file: int
    first: int
    count: int
    tokens: int


@dataclasses.dataclass(frozen=True)
class Settings:
    """A sweep: the request of the user, then what `plan` adds.

    Attributes:
        model: name of an embedded model, or a folder.
        paths: input files in the order of the corpus.
        out: folder of the sweep.
        device, dtype: of the computation; dtype None: float32 in the own network, as published in others.
        window: tokens of a run, with those that begin it; None: the context of the model.
        batch_tokens: largest number of tokens of a batch, with padding; a longer window runs alone.
        shard_tokens: tokens after which a shard ends.
        keep: what the sweep stores beyond sums; of `KEEP`.
        fixed: label -> value for every document.
        keys: label -> key or column of the input that holds it.
        shards: the shards of the corpus.
        token_ids: the tokens that are counted per expert; None: every token.
        strata: the labels whose combinations are summed apart.
        engine: address of the engine that serves the model; None: the model runs here.
        engine_kind: "vllm" or "sglang"; None: the engine says so.
        checked: the shard that is routed twice, the second time in smaller batches; None: no shard.
    """

    model: str
    paths: tuple[str, ...]
    out: str
    device: str = "auto"
    dtype: str | None = None
    window: int | None = None
    batch_tokens: int = 2048
    shard_tokens: int = 65_536
    keep: tuple[str, ...] = ()
    fixed: tuple[tuple[str, str], ...] = ()
    keys: tuple[tuple[str, str], ...] = ()
    shards: tuple[Shard, ...] = ()
    token_ids: tuple[int, ...] | None = None
    strata: tuple[str, ...] = LABELS
    checked: int | None = None
    engine: str | None = None
    engine_kind: str | None = None

    def part(self, shard: int) -> Path:
        """Return the file of a shard; it exists once the shard is finished."""
        return Path(self.out) / "parts" / part_name(shard)


def part_name(shard: int) -> str:
    """Return the name of a shard's part.

    >>> part_name(7)
    'part-00007.parquet'
    """
    return f"part-{shard:05d}.parquet"


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a worker says of a finished shard.

    Attributes:
        shard: its number.
        documents: documents that were routed.
        tokens: their counted tokens.
        refused: tokens whose routing a server gave in a form that the import rules refuse.
        failed: documents that could not be routed.
        seconds: time of the worker.
    """

    shard: int
    documents: int
    tokens: int
    refused: int
    failed: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Failure:
    """A shard that no worker could finish; the others go on, and the same command tries it again.

    Attributes:
        shard: its number.
        error: why, in one line.
    """

    shard: int
    error: str


@dataclasses.dataclass(frozen=True)
class Workers:
    """The processes that route shards.

    Attributes:
        number: how many.
        gpus_each: GPUs that each reserves, also a part of one; None: one if the model runs on CUDA.
        address: address of the operator's Ray cluster; None: this machine.
    """

    number: int
    gpus_each: float | None = None
    address: str | None = None
