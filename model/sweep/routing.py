"""The routing of one shard: from its documents to the tables of its part.

Shape suffixes: N tokens of a document or of a batch, L MoE layers, E experts, K selected experts.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from model.atlas.schema import LABELS
from model.checkpoint.tokenizer import Tokenizer, TokenizerError
from model.sweep.examples import Examples
from model.sweep.loaded import Loaded
from model.sweep.settings import Summary
from model.sweep.source import Decisions
from model.sweep.sums import Routed, Sums
from model.sweep.tables import Labels, sum_tables, table_of
from model.sweep.texts import Bad, Document
from model.sweep.windows import Window, batches, windows_of

FAILURES = (ValueError, RuntimeError, IndexError, MemoryError)  # of a batch; a full disk is none of them


class Routing:
    """The routed documents of a shard."""

    def __init__(self, loaded: Loaded, documents: Sequence[Document | Bad], first: int, check: bool) -> None:
        """Route the documents.

        Args:
            loaded: the model and the settings.
            documents: the documents.
            first: number of the first one in its file.
            check: whether to route them again in smaller batches, and to count the decisions that differ.
        """
        self._loaded, self._source, self._first = loaded, loaded.source, first
        self._failed: dict[int, tuple[str | None, str]] = {}
        self._documents: dict[int, Document] = {}
        self._token_ids: dict[int, np.ndarray] = {}
        for number, document in enumerate(documents):
            self._take(number, document)
        labels = {number: self._labels(document) for number, document in self._documents.items()}
        self._strata = sorted(set(labels.values()), key=lambda names: tuple(name or "" for name in names))
        self._stratum = {number: self._strata.index(names) for number, names in labels.items()}
        self._rows: dict[int, dict[str, Any]] = {}
        self._refused = 0
        shape = len(self._source.layers), self._source.num_experts
        longest = max((len(ids) for ids in self._token_ids.values()), default=1)
        self._examples = Examples(*shape) if "examples" in loaded.settings.keep else None
        self._sums = Sums(shape, self._source.top_k, len(self._strata), longest, loaded.column_V, self._source.capture)
        self._open: dict[int, tuple[list[Window], list[Decisions]]] = {}  # documents with windows to come
        self._first_ids: dict[tuple[int, int], np.ndarray] = {}  # of a checked shard, by document and position
        self._check: dict[str, int] = {}
        self._run(check)

    def _take(self, number: int, document: Document | Bad) -> None:
        if isinstance(document, Bad):
            self._failed[number] = (None, document.reason)
            return
        try:
            self._token_ids[number] = encode(self._source.tokenizer, document)
            self._documents[number] = document
        except TokenizerError as error:
            self._failed[number] = (document.source, str(error))

    def _labels(self, document: Document) -> Labels:
        strata = self._loaded.settings.strata
        domain, language, source = (getattr(document, label) if label in strata else None for label in LABELS)
        return domain, language, source

    def _run(self, check: bool) -> None:
        num_first = len(self._source.tokenizer.first_ids)
        windows = {
            number: windows_of(number, ids, num_first, self._loaded.window) for number, ids in self._token_ids.items()
        }
        missing = {number: len(own) for number, own in windows.items()}
        every = [window for own in windows.values() for window in own]
        for batch in batches(every, self._loaded.settings.batch_tokens):
            complete = []
            for window, decisions in self._decide(batch):
                if window.document in self._failed:  # another of its windows failed
                    continue
                if check:
                    self._first_ids[window.document, window.position] = decisions.ids_NLK.astype(np.uint16)
                own, parts = self._open.setdefault(window.document, ([], []))
                own.append(window)
                parts.append(rows(decisions, slice(window.start, None)))
                missing[window.document] -= 1
                if not missing[window.document]:
                    complete.append(window.document)
            self._add([self._routed(number) for number in complete])
        self._sums.finish()
        if check:
            self._repeat(every)

    def _repeat(self, windows: list[Window]) -> None:
        """Route the windows again in batches of a quarter of the tokens, and count the decisions that differ."""
        batch_tokens = max(1, self._loaded.settings.batch_tokens // 4)
        decided = different = 0
        for batch in batches(windows, batch_tokens):
            for window, decisions in self._decide(batch):
                first = self._first_ids[window.document, window.position]
                decided += first.shape[0] * first.shape[1]
                different += int((first != decisions.ids_NLK).any(-1).sum())
        self._check = {"batch_tokens": batch_tokens, "decisions": decided, "different": different}

    def _decide(self, batch: list[Window]) -> list[tuple[Window, Decisions]]:
        """Return the decisions of each window; if the batch fails, run each window alone and note those that fail."""
        batch = [window for window in batch if window.document not in self._failed]
        if not batch:
            return []
        try:
            decisions = self._source.decisions(batch)
        except FAILURES as error:
            if len(batch) > 1:
                return [pair for window in batch for pair in self._decide([window])]
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            self._failed[batch[0].document] = (self._documents[batch[0].document].source, reason)
            self._open.pop(batch[0].document, None)
            return []
        ends = np.cumsum([len(window.token_ids) for window in batch])
        return [
            (window, rows(decisions, slice(end - len(window.token_ids), end)))
            for window, end in zip(batch, ends, strict=True)
        ]

    def _routed(self, number: int) -> Routed:
        """Return a complete document, and begin its row."""
        windows, parts = self._open.pop(number)
        order = np.argsort([window.position for window in windows])
        whole = joined([parts[index] for index in order])
        document, ids = self._documents[number], self._token_ids[number]
        known = np.ones(len(ids), bool) if whole.refused_N is None else ~whole.refused_N
        self._refused += int((~known).sum())
        chosen = rows(whole, known)
        row = {"tokens": int(known.sum()), "windows": len(windows), "truncated": len(windows) > 1}
        if chosen.bits_N is not None:
            has_bits = ~np.isnan(chosen.bits_N)
            text = self._source.tokenizer.decode(ids[known][has_bits].tolist())
            row |= {"bits": chosen.bits_N[has_bits].astype(np.float64).sum(), "bytes": len(text)}
        if "ids" in self._loaded.settings.keep:
            row |= self._kept(chosen, ids[known])
        self._rows[number] = row
        classes = self._loaded.classes.of(ids, document.domain)[known]
        return Routed(
            number, self._stratum[number], np.flatnonzero(known), ids[known], classes,
            chosen.ids_NLK, chosen.weights_NLK, chosen.margins_NL, chosen.norms_NLK,
        )  # fmt: skip

    def _kept(self, chosen: Decisions, token_ids: np.ndarray) -> dict[str, bytes]:
        dtype = "u1" if self._source.num_experts <= 256 else "<u2"
        kept = {"ids": chosen.ids_NLK.astype(dtype).tobytes(), "token_ids": token_ids.astype("<u4").tobytes()}
        if chosen.margins_NL is not None:
            kept["margins"] = chosen.margins_NL.astype("<f2").tobytes()
        return kept

    def _add(self, complete: list[Routed]) -> None:
        if not complete:
            return
        for document, counts_LE in zip(complete, self._sums.add(complete), strict=True):
            dtype = "<u2" if counts_LE.max() < 1 << 16 else "<u4"
            self._rows[document.number]["counts"] = counts_LE.astype(dtype).tobytes()
            if self._examples is not None and document.weights_NLK is not None:
                self._examples.add(document.number, document.positions, document.ids_NLK, document.weights_NLK)

    def tables(self) -> dict[str, pa.Table]:
        """Return the tables of the part."""
        source, numbers = self._source, sorted(self._rows)
        doc_ids = {number: doc_id(self._documents[number]) for number in numbers}
        labels = {label: [getattr(self._documents[number], label) for number in numbers] for label in LABELS}
        names = list(self._rows[numbers[0]]) if numbers else []
        columns = {name: [self._rows[number][name] for number in numbers] for name in names}
        failed = {
            "document": [self._first + number for number in sorted(self._failed)],
            "source": [self._failed[number][0] for number in sorted(self._failed)],
            "error": [self._failed[number][1] for number in sorted(self._failed)],
        }
        tables = {
            "documents": table_of("documents", {"doc_id": list(doc_ids.values()), **labels, **columns}),
            **sum_tables(self._sums, self._strata, source.layers, self._loaded.token_ids),
            "failed": table_of("failed", failed),
        }
        if self._check:
            tables["check"] = table_of("check", {name: [value] for name, value in self._check.items()})
        if self._examples is not None and "weights" in source.capture:
            examples = self._examples.columns(source.layers, doc_ids, self._token_ids, source.tokenizer)
            tables["examples"] = table_of("examples", examples)
        return tables

    def summary(self, shard: int, seconds: float) -> Summary:
        """Return what the part holds, in numbers."""
        tokens = sum(row["tokens"] for row in self._rows.values())
        return Summary(shard, len(self._rows), tokens, self._refused, len(self._failed), seconds)


def encode(tokenizer: Tokenizer, document: Document) -> np.ndarray:
    """Return the tokens of a document, with those that begin a run.

    Raises:
        TokenizerError: the text cannot be encoded.
    """
    return np.array([*tokenizer.first_ids, *tokenizer.encode(document.text)], np.int64)


def doc_id(document: Document) -> str:
    """Return 32 hexadecimal digits that name a document: the start of the SHA-256 of its source and text."""
    content = f"{document.source or ''}\0{document.text}".encode(errors="surrogatepass")
    return hashlib.sha256(content).hexdigest()[:32]


def rows(decisions: Decisions, chosen: slice | np.ndarray) -> Decisions:
    """Return the decisions of some tokens."""
    parts: list[Any] = [None if values is None else values[chosen] for values in _fields(decisions)]
    return Decisions(*parts)


def joined(parts: Sequence[Decisions]) -> Decisions:
    """Return the decisions of several parts as one."""
    if len(parts) == 1:
        return parts[0]
    columns = zip(*(_fields(part) for part in parts), strict=True)
    whole: list[Any] = [None if column[0] is None else np.concatenate(column) for column in columns]
    return Decisions(*whole)


def _fields(decisions: Decisions) -> tuple[Any, ...]:
    return tuple(getattr(decisions, name) for name in decisions.__dataclass_fields__)
