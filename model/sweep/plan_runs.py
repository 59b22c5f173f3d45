"""Runs the documents of a plan's check with each variant, and keeps the finished variants in a file.

Shape suffixes: D documents, N tokens of a window, L MoE layers, K selected experts.
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from model.network.edit import RoutingEdit
from model.sweep.network import NetworkSource
from model.sweep.windows import batches, windows_of
from model.trace.rollout import document_sums

Sums = dict[str, list[float]]  # per document


class Runs:
    """Runs the documents with an edit, and compares each token with the run as trained."""

    def __init__(self, source: NetworkSource, token_ids: Sequence[np.ndarray], batch_tokens: int) -> None:
        self._source, num_first = source, len(source.tokenizer.first_ids)
        windows = [
            window
            for number, ids in enumerate(token_ids)
            for window in windows_of(number, ids, num_first, source.context)
        ]
        self._batches = list(batches(windows, batch_tokens))
        self._bytes_D = [len(source.tokenizer.decode(ids[num_first:].tolist())) for ids in token_ids]
        self._first: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] | None = None

    def sums(self, edit: RoutingEdit | None) -> Sums:
        """Return the sums of a variant per document: `bits`, `bytes`, `tokens`, and those of its routing damage."""
        if self._first is None:
            self._first = {
                (document, position): (ids_NLK.astype(np.uint16), bits_N)
                for document, position, ids_NLK, bits_N in self._decisions(None)
            }
        columns: dict[str, np.ndarray] = {"bytes": np.array(self._bytes_D, float)}
        trained = ((*key, *values) for key, values in self._first.items())
        for document, position, ids_NLK, bits_N in trained if edit is None else self._decisions(edit):
            first_ids, first_bits = self._first[document, position]
            for name, value in _damage(first_ids, ids_NLK, first_bits, bits_N).items():
                columns.setdefault(name, np.zeros(len(self._bytes_D)))[document] += value
        return {name: values.tolist() for name, values in columns.items()}

    def _decisions(self, edit: RoutingEdit | None) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
        """Yield each window: its document and position, its counted tokens' ids [N, L, K], ascending, and bits [N]."""
        self._source.edit = edit
        for batch in self._batches:
            decisions = self._source.decisions(batch)
            assert decisions.bits_N is not None
            end = 0
            for window in batch:
                start, end = end + window.start, end + len(window.token_ids)
                bits_N = decisions.bits_N[start:end].astype(np.float64)
                yield window.document, window.position, decisions.ids_NLK[start:end], bits_N


def _damage(first_NLK: np.ndarray, ids_NLK: np.ndarray, first_N: np.ndarray, bits_N: np.ndarray) -> dict[str, float]:
    """Return the sums of one window: bits, tokens, splits by layer, and both parts of every figure."""
    num_experts = 1 + int(max(first_NLK.max(initial=0), ids_NLK.max(initial=0)))
    hit, own = (np.zeros((*first_NLK.shape[:2], num_experts), bool) for _ in range(2))
    np.put_along_axis(hit, first_NLK.astype(np.int64), True, -1)
    np.put_along_axis(own, ids_NLK.astype(np.int64), True, -1)
    shared, top_k = (hit & own).sum(-1), ids_NLK.shape[-1]
    split, known = shared < top_k, ~np.isnan(bits_N)
    before, after = (-math.log(2) * bits[known] for bits in (first_N, bits_N))
    parts = document_sums(
        shared, np.ones_like(split), split, top_k, after - before, np.abs(np.exp(after) - np.exp(before))
    )
    sums = {"bits": float(bits_N[known].sum()), "tokens": float(len(bits_N))}
    sums |= {f"layer {index}": float(number) for index, number in enumerate(split.sum(0))}
    return sums | {f"{name} {part}": pair[index] for name, pair in parts.items() for index, part in enumerate("/n")}


class Log:
    """The finished variants, in memory and in a file of JSON lines whose first one is the identity of the check."""

    def __init__(self, path: Path, identity: str, on_note: Callable[[str], None]) -> None:
        self._path = path
        self.variants: dict[str, Sums] = {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        if lines and lines[0] == identity:
            for line in lines[1:]:
                try:
                    name, sums = json.loads(line)
                except ValueError:  # a line that was not written to its end
                    break
                self.variants[name] = sums
            on_note(f"{len(self.variants)} variants were finished before; the check goes on")
        elif lines:
            on_note(f"{path} belongs to another check and is replaced")
        self._write([identity, *(json.dumps(entry) for entry in self.variants.items())], "w")

    def add(self, name: str, sums: Sums) -> None:
        """Keep a finished variant."""
        self.variants[name] = sums
        self._write([json.dumps([name, sums])], "a")

    def _write(self, lines: Sequence[str], mode: str) -> None:
        with self._path.open(mode, encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)
