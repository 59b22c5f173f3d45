"""Plan a sweep: read all texts once, cut them into shards, and choose what is counted."""

import collections
import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from model.atlas.schema import LABELS
from model.checkpoint.tokenizer import Tokenizer, TokenizerError
from model.sweep.routing import encode
from model.sweep.settings import Settings, Shard, SweepError
from model.sweep.sums import MOST_TOKEN_CELLS
from model.sweep.texts import Bad, read_documents

MOST_DOCUMENTS = 4096  # of a shard
MOST_STRATA = 512


@dataclasses.dataclass(frozen=True)
class Plan:
    """A planned sweep.

    Attributes:
        settings: with shards, tokens and strata.
        inputs: the entries of the manifest on the input files.
        documents: documents that can be routed.
        tokens: their tokens.
        bad: documents that cannot be routed.
    """

    settings: Settings
    inputs: tuple[dict[str, Any], ...]
    documents: int
    tokens: int
    bad: int


def plan(
    settings: Settings,
    tokenizer: Tokenizer,
    vocab_size: int,
    cells: int,
    on_file: Callable[[int, int], None] = lambda done, total: None,
) -> Plan:
    """Return the plan of a sweep.

    Args:
        settings: the request.
        tokenizer: of the model.
        vocab_size: of the model.
        cells: MoE layers times experts; decides how many different tokens are counted.
        on_file: called with the number of files read, and of all files.

    Raises:
        SweepError: a file is unusable, or no document can be routed.
        OSError: a file cannot be read.
    """
    shards: list[Shard] = []
    inputs: list[dict[str, Any]] = []
    uses_V = np.zeros(vocab_size, np.int64)
    strata: set[tuple[str | None, ...]] = set()
    totals: collections.Counter[str] = collections.Counter()
    for file, name in enumerate(settings.paths):
        on_file(file, len(settings.paths))
        path, sizes = Path(name), list[int]()
        for document in read_documents(path, settings):
            tokens = 0
            if not isinstance(document, Bad):
                try:
                    ids = encode(tokenizer, document)
                    uses_V += np.bincount(ids, minlength=vocab_size)[:vocab_size]
                    tokens = len(ids)
                    if len(strata) <= MOST_STRATA:
                        strata.add(tuple(getattr(document, label) for label in LABELS))
                except TokenizerError:
                    pass
            totals.update(documents=bool(tokens), bad=not tokens, tokens=tokens)
            sizes.append(tokens)
        shards += _shards(file, sizes, settings.shard_tokens)
        inputs.append(
            {"name": path.name, "sha256": sha256(path), "bytes": path.stat().st_size, "documents": len(sizes)}
        )
    if not totals["documents"]:
        raise SweepError("no document can be routed: every text is empty or unusable")
    planned = dataclasses.replace(
        settings, shards=tuple(shards), token_ids=_counted(uses_V, cells), strata=_strata(strata)
    )
    return Plan(planned, tuple(inputs), totals["documents"], totals["tokens"], totals["bad"])


def _shards(file: int, sizes: list[int], most_tokens: int) -> list[Shard]:
    """Return the shards of a file from the tokens of its documents."""
    shards, first, tokens = list[Shard](), 0, 0
    for number, size in enumerate(sizes):
        if number > first and (tokens + size > most_tokens or number - first == MOST_DOCUMENTS):
            shards.append(Shard(file, first, number - first, tokens))
            first, tokens = number, 0
        tokens += size
    return [*shards, Shard(file, first, len(sizes) - first, tokens)] if sizes else []


def _counted(uses_V: np.ndarray, cells: int) -> tuple[int, ...] | None:
    """Return the tokens to count per expert, the most frequent ones; None if all can be counted."""
    most = max(1, MOST_TOKEN_CELLS // cells)
    if len(uses_V) <= most:
        return None
    return tuple(sorted(np.argsort(-uses_V, kind="stable")[:most].tolist()))


def _strata(combinations: set[tuple[str | None, ...]]) -> tuple[str, ...]:
    """Return the first labels whose combinations are few enough to be summed apart."""
    for count in range(len(LABELS), 0, -1):
        if len({labels[:count] for labels in combinations}) <= MOST_STRATA:
            return LABELS[:count]
    return ()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
