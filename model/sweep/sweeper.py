"""Routes one shard after another; a plain loop and a pool of workers use the same class."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

from model.sweep.loaded import prepare
from model.sweep.parts import write_part
from model.sweep.routing import Routing
from model.sweep.settings import Settings, Shard, Summary, SweepError
from model.sweep.source import Source, open_source
from model.sweep.texts import Bad, Document, read_documents


class Sweeper:
    """A loaded model that routes shards and writes their parts.

    Attributes:
        settings: the planned sweep.
        loaded: the model.
    """

    def __init__(self, settings: Settings, source: Source | None = None) -> None:
        """Load the model, unless a loaded `source` is given.

        Raises:
            ValueError, OSError: the model cannot be loaded.
        """
        self.settings, self.loaded = settings, prepare(settings, source or open_source(settings))
        self._reader: tuple[int, int, Iterator[Document | Bad]] | None = None  # file, next document, documents

    def route(self, shard: int) -> Summary:
        """Route the documents of a shard, write its part under a temporary name, rename it, and return a summary.

        A document that fails is listed in the part with its reason.

        Raises:
            SweepError: an input file changed since the sweep was planned.
            OSError: the part cannot be written, as on a full disk; no part is left.
        """
        started = time.monotonic()
        planned = self.settings.shards[shard]
        routing = Routing(self.loaded, self.documents(planned), planned.first, shard == self.settings.checked)
        write_part(self.settings.part(shard), routing.tables())
        return routing.summary(shard, time.monotonic() - started)

    def documents(self, shard: Shard) -> list[Document | Bad]:
        """Return the documents of a shard; reading goes on where the last shard of the file ended."""
        if self._reader is None or self._reader[0] != shard.file or self._reader[1] > shard.first:
            path = Path(self.settings.paths[shard.file])
            self._reader = (shard.file, 0, read_documents(path, self.settings))
        _, position, documents = self._reader
        chosen = list(itertools.islice(documents, shard.first - position, shard.first - position + shard.count))
        if len(chosen) < shard.count:
            raise SweepError(f"{self.settings.paths[shard.file]} became shorter while it was swept; sweep it again")
        self._reader = (shard.file, shard.first + shard.count, documents)
        return chosen
