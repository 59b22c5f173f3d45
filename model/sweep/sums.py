"""The sums of a shard: what each table adds up over documents.

Shape suffixes: N tokens, L MoE layers, K selected experts, E experts, D documents of a group, C token classes (index 0
is "all"), P buckets of positions, S strata, V counted tokens.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from model.atlas.schema import MARGIN_BINS, TOKEN_CLASSES, bucket_of, margin_bin

NUM_CLASSES = len(TOKEN_CLASSES)
MOST_PAIR_CELLS = 1 << 20  # layers x experts x experts, up to which pairs and transitions are summed
MOST_TOKEN_CELLS = 1 << 23  # layers x experts x tokens
_GROUP_CELLS = 1 << 22  # cells of the dense arrays of a group of documents
_SLICE = 1 << 14  # tokens whose indices are computed at a time


@dataclasses.dataclass(frozen=True)
class Routed:
    """A routed document: its counted tokens in order; what the source cannot give is None.

    Attributes:
        number: number of the document in its shard.
        stratum: its stratum in the shard.
        positions, token_ids, classes: [N].
        ids_NLK, weights_NLK, margins_NL, norms_NLK: see `model.sweep.source.Decisions`.
    """

    number: int
    stratum: int
    positions: np.ndarray
    token_ids: np.ndarray
    classes: np.ndarray
    ids_NLK: np.ndarray
    weights_NLK: np.ndarray | None
    margins_NL: np.ndarray | None
    norms_NLK: np.ndarray | None

    def rows(self, begin: int, end: int) -> "Routed":
        """Return a part of the document's tokens."""
        names = [field.name for field in dataclasses.fields(self)][2:]
        parts = {name: None if (values := getattr(self, name)) is None else values[begin:end] for name in names}
        return dataclasses.replace(self, **parts)


class Sums:
    """Accumulators of one shard.

    Attributes:
        whole: name -> int64 [S, C, L, E] for the counts of the table `counts`; "margins" has an axis more.
        real: name -> float64 [S, C, L, E]; index 0 of C stays zero until `finish`.
        strata: name -> int64 [S, C].
        positions: name -> int64 [P, L, E]; "n" and "n2" [P].
        pairs, transitions: name -> int64 [L, E, E]; empty if they are not summed.
        tokens: "c" and "docs" int64, "weight_sum" float64, [L, E, V].
    """

    def __init__(
        self,
        shape: tuple[int, int],
        top_k: int,
        num_strata: int,
        window: int,
        column_V: np.ndarray,
        captured: frozenset[str],
    ) -> None:
        """Begin with zero.

        Args:
            shape: numbers of layers and experts.
            top_k: selected experts per token.
            num_strata: strata of the shard.
            window: length of the longest document, for the number of buckets.
            column_V: token id -> its column in the table of tokens; -1: it is not counted.
            captured: see `capture` of `model.sweep.source.Source`.
        """
        layers, experts = shape
        self.shape, self.top_k, self.captured, self._column_V = shape, top_k, captured, column_V
        self._num_buckets = int(bucket_of(np.array([window]))[0]) + 1
        cells = (num_strata, NUM_CLASSES, layers, experts)
        self.whole: dict[str, np.ndarray] = {name: np.zeros(cells, np.int64) for name in ("docs_hit", "c", "c2", "cn")}
        if "margins" in captured:
            self.whole["margins"] = np.zeros((*cells, MARGIN_BINS), np.int64)
        names = ["weight_sum"] if "weights" in captured else []
        if "norms" in captured:
            names += ["norm_sum", "weighted_norm_sum", "weighted_norm2_sum"]
        self.real = {name: np.zeros(cells) for name in names}
        self.strata = {name: np.zeros((num_strata, NUM_CLASSES), np.int64) for name in ("docs", "sum_n", "sum_n2")}
        buckets = self._num_buckets
        self.positions: dict[str, np.ndarray] = {
            name: np.zeros((buckets, layers, experts), np.int64) for name in ("c", "c2", "cn")
        }
        self.positions |= {name: np.zeros(buckets, np.int64) for name in ("n", "n2")}
        square = (layers, experts, experts)
        few = layers * experts * experts <= MOST_PAIR_CELLS
        pairs, transitions = ("a", "a2", "a_ci", "a_cj", "a_n", "ci_cj"), ("a", "a2", "a_ci", "a_cj", "a_n")
        self.pairs = {name: np.zeros(square, np.int64) for name in pairs} if few else {}
        follows = (layers - 1, experts, experts)
        self.transitions = {name: np.zeros(follows, np.int64) for name in transitions} if few and layers > 1 else {}
        table = (layers, experts, int(column_V.max(initial=-1)) + 1)
        self.tokens: dict[str, np.ndarray] = {name: np.zeros(table, np.int32) for name in ("c", "docs")}
        if "weights" in captured:
            self.tokens["weight_sum"] = np.zeros(table)

    def add(self, documents: Sequence[Routed]) -> np.ndarray:
        """Add complete documents, and return the selections of each expert in each document, int64 [D, L, E]."""
        return np.concatenate([self._add_group(group) for group in self._groups(documents)])

    def _groups(self, documents: Sequence[Routed]) -> Iterator[Sequence[Routed]]:
        layers, experts = self.shape
        largest = layers * experts * max(NUM_CLASSES, self._num_buckets, experts if self.pairs else 0)
        size = max(1, _GROUP_CELLS // largest)
        for start in range(0, len(documents), size):
            yield documents[start : start + size]

    def _add_group(self, group: Sequence[Routed]) -> np.ndarray:
        layers, experts = self.shape
        size = len(group)
        classes = np.zeros((size, NUM_CLASSES, layers, experts), np.int64)
        buckets = np.zeros((size, self._num_buckets, layers, experts), np.int64)
        pairs = np.zeros((size, layers, experts, experts), np.int64) if self.pairs else None
        follows = np.zeros((size, layers - 1, experts, experts), np.int64) if self.transitions else None
        seen = np.zeros(0, np.int64)
        for part, document_N in _slices(group):
            cell_NLK = np.arange(layers)[:, None] * experts + part.ids_NLK
            _count(classes, document_N * NUM_CLASSES + part.classes, cell_NLK, layers * experts)
            bucket_N = bucket_of(part.positions)
            _count(buckets, document_N * self._num_buckets + bucket_N, cell_NLK, layers * experts)
            if pairs is not None:
                first, second = np.triu_indices(self.top_k, 1)  # ids ascend, so i < j
                pair = cell_NLK[..., first] * experts + part.ids_NLK[..., second]
                _count(pairs, document_N, pair, layers * experts**2)
            if follows is not None:
                pair = cell_NLK[:, :-1, :, None] * experts + part.ids_NLK[:, 1:, None, :]
                _count(follows, document_N, pair, (layers - 1) * experts**2)
            stratum_N = np.array([document.stratum for document in group])[document_N]
            self._add_sums(part, stratum_N, cell_NLK)
            seen = self._add_tokens(part, document_N, cell_NLK, seen)
        _add(self.tokens["docs"], seen % max(1, self.tokens["docs"].size))
        classes[:, 0] = classes.sum(1)
        n = classes.sum(-1)[:, :, 0]  # the same in every layer, [D, C]
        self._reduce_classes(classes, n, [document.stratum for document in group])
        self._reduce_positions(buckets)
        counts = classes[:, 0]
        if pairs is not None:
            _reduce_pairs(self.pairs, pairs, counts, counts, n[:, 0])
            self.pairs["ci_cj"] += np.einsum("dli,dlj->lij", counts, counts)
        if follows is not None:
            _reduce_pairs(self.transitions, follows, counts[:, :-1], counts[:, 1:], n[:, 0])
        return counts

    def _add_sums(self, part: Routed, stratum_N: np.ndarray, cell_NLK: np.ndarray) -> None:
        """Add what is summed over tokens: gate weights, norms and margins."""
        layers, experts = self.shape
        row_NLK = (stratum_N * NUM_CLASSES + part.classes)[:, None, None] * (layers * experts) + cell_NLK
        row = row_NLK.reshape(-1)
        weights = part.weights_NLK
        values: dict[str, np.ndarray] = {}
        if weights is not None:
            weights = weights.astype(np.float64)
            values["weight_sum"] = weights
        if part.norms_NLK is not None and weights is not None:
            norms = part.norms_NLK.astype(np.float64)
            values |= {"norm_sum": norms, "weighted_norm_sum": weights * norms}
            values["weighted_norm2_sum"] = values["weighted_norm_sum"] ** 2
        for name, value in values.items():
            _add(self.real[name], row, value.reshape(-1))
        if part.margins_NL is not None:
            binned = row_NLK * MARGIN_BINS + margin_bin(part.margins_NL)[..., None]
            _add(self.whole["margins"], binned.reshape(-1))

    def _add_tokens(self, part: Routed, document_N: np.ndarray, cell_NLK: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Add the selections by token, and return the sorted keys of (document, layer, expert, token) so far."""
        counted_N = np.flatnonzero(self._column_V[part.token_ids] >= 0)
        column = self._column_V[part.token_ids[counted_N]]
        size = self.tokens["c"].shape[-1]
        row_NLK = cell_NLK[counted_N] * size + column[:, None, None]
        row = row_NLK.reshape(-1)
        _add(self.tokens["c"], row)
        if part.weights_NLK is not None:
            _add(self.tokens["weight_sum"], row, part.weights_NLK[counted_N].reshape(-1))
        keys_NLK = document_N[counted_N][:, None, None] * self.tokens["c"].size + row_NLK
        return np.unique(np.concatenate([seen, keys_NLK.reshape(-1)]))

    def _reduce_classes(self, classes: np.ndarray, n: np.ndarray, stratum: list[int]) -> None:
        for index in sorted(set(stratum)):
            chosen = np.array(stratum) == index
            c, own = classes[chosen], n[chosen]
            self.whole["docs_hit"][index] += (c > 0).sum(0)
            self.whole["c"][index] += c.sum(0)
            self.whole["c2"][index] += (c * c).sum(0)
            self.whole["cn"][index] += (c * own[:, :, None, None]).sum(0)
            self.strata["docs"][index] += (own > 0).sum(0)
            self.strata["sum_n"][index] += own.sum(0)
            self.strata["sum_n2"][index] += (own * own).sum(0)

    def _reduce_positions(self, buckets: np.ndarray) -> None:
        n = buckets.sum(-1)[:, :, 0]
        self.positions["c"] += buckets.sum(0)
        self.positions["c2"] += (buckets * buckets).sum(0)
        self.positions["cn"] += (buckets * n[:, :, None, None]).sum(0)
        self.positions["n"] += n.sum(0)
        self.positions["n2"] += (n * n).sum(0)

    def finish(self) -> None:
        """Add the sums of all token classes into the class "all"."""
        for values in (*self.real.values(), *([self.whole["margins"]] if "margins" in self.whole else [])):
            values[:, 0] = values[:, 1:].sum(1)


def _slices(group: Sequence[Routed]) -> Iterator[tuple[Routed, np.ndarray]]:
    """Return the tokens of all documents in slices, each with the index of the document in the group, [N]."""
    pending: list[tuple[int, Routed]] = []
    size = 0
    for index, document in enumerate(group):
        for begin in range(0, len(document.positions), _SLICE):
            part = document.rows(begin, begin + _SLICE)
            if pending and size + len(part.positions) > _SLICE:
                yield _joined(pending)
                pending, size = [], 0
            pending.append((index, part))
            size += len(part.positions)
    if pending:
        yield _joined(pending)


def _joined(parts: list[tuple[int, Routed]]) -> tuple[Routed, np.ndarray]:
    first = parts[0][1]
    names = [field.name for field in dataclasses.fields(first)][2:]
    joined = {
        name: None if getattr(first, name) is None else np.concatenate([getattr(part, name) for _, part in parts])
        for name in names
    }
    document_N = np.repeat([index for index, _ in parts], [len(part.positions) for _, part in parts])
    return dataclasses.replace(first, **joined), document_N


def _count(into: np.ndarray, row_N: np.ndarray, cell: np.ndarray, cells: int) -> None:
    """Count the cells [N, ...] of each row; `into` holds `cells` numbers per row."""
    key = row_N.reshape(-1, *[1] * (cell.ndim - 1)) * cells + cell
    into += np.bincount(key.reshape(-1), minlength=into.size).reshape(into.shape)


def _add(into: np.ndarray, row: np.ndarray, values: np.ndarray | None = None) -> None:
    """Add values, or ones, to the rows of a flattened array."""
    if into.size <= len(row):  # then a dense sum of this slice costs less
        into += np.bincount(row, values, into.size).reshape(into.shape).astype(into.dtype)
    else:
        np.add.at(into.reshape(-1), row, 1 if values is None else values)


def _reduce_pairs(sums: dict[str, np.ndarray], a: np.ndarray, ci: np.ndarray, cj: np.ndarray, n: np.ndarray) -> None:
    """Add the sums over documents of pairs a [D, L, E, E] and of counts ci, cj [D, L, E] and n [D]."""
    sums["a"] += a.sum(0)
    sums["a2"] += (a * a).sum(0)
    sums["a_ci"] += np.einsum("dlij,dli->lij", a, ci)
    sums["a_cj"] += np.einsum("dlij,dlj->lij", a, cj)
    sums["a_n"] += np.einsum("dlij,d->lij", a, n)
