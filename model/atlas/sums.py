"""Sums over documents, from which shares of load and their errors follow exactly.

Shape suffixes: D documents, S strata, G groups of documents, N groupings, R groups of all groupings, L MoE layers,
E experts.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd

from model.atlas.folder import Sweep

_FIELDS = (("c", "c"), ("c2", "c2"), ("cn", "cn"), ("hit", "docs_hit"))  # field -> column of the table `counts`
_COLUMNS = ["stratum", "layer", "expert", "c", "c2", "cn", "docs_hit"]
_SIZES = (("n", "sum_n"), ("n2", "sum_n2"), ("documents", "docs"))  # field -> column of the table `strata`


@dataclasses.dataclass(frozen=True)
class Sums:
    """Sums over the documents d of one or more groups; c_d are selections of an expert, n_d selections of all experts.

    Attributes:
        c, c2, cn: sums of c_d, c_d^2 and c_d n_d, [..., L, E].
        hit: documents with c_d > 0, [..., L, E].
        n, n2: sums of n_d and n_d^2, [...].
        documents: number of documents with n_d > 0, [...].
    """

    c: np.ndarray
    c2: np.ndarray
    cn: np.ndarray
    hit: np.ndarray
    n: np.ndarray
    n2: np.ndarray
    documents: np.ndarray

    def _each(self, change: Callable[[np.ndarray], np.ndarray]) -> "Sums":
        return Sums(*(change(getattr(self, field.name)) for field in dataclasses.fields(self)))

    def __getitem__(self, groups: object) -> "Sums":
        """Return the sums of some groups, by an index of the first axis."""
        return self._each(lambda values: values[groups])  # pyright: ignore[reportArgumentType, reportCallIssue]

    def __add__(self, other: "Sums") -> "Sums":
        """Return the sums of the documents of both, which share none."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in dataclasses.fields(self))
        return Sums(*(mine + theirs for mine, theirs in pairs))

    def total(self) -> "Sums":
        """Return the sums over all groups."""
        return self._each(lambda values: values.sum(0))

    def rest(self) -> "Sums":
        """Return for each group the sums over all other groups."""
        return self._each(lambda values: values.sum(0) - values)

    def added(self, group_S: np.ndarray, num_groups: int) -> "Sums":
        """Return sums of coarser groups; group `group_S[s]` receives stratum s, and -1 drops it."""
        kept = group_S >= 0

        def add(values: np.ndarray) -> np.ndarray:
            added = np.zeros((num_groups, *values.shape[1:]), values.dtype)
            np.add.at(added, group_S[kept], values[kept])
            return added

        return self._each(add)

    def share(self) -> np.ndarray:
        """Return the share of the selections that each expert has, [..., L, E]; NaN without selections."""
        with np.errstate(invalid="ignore"):
            return self.c / _wide(self.n)

    def degrees(self) -> np.ndarray:
        """Return the degrees of freedom of each share's error, [..., L, E]: the effective number of documents, less 1.

        It is the number that the selections come from, (sum c)^2 / sum c^2: D if all documents have equally many.
        Where few documents hold most selections, D - 1 degrees would give intervals that are too narrow.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.c > 0, np.maximum(self.c.astype(float) ** 2 / self.c2 - 1, 1), np.nan)

    def squared_residuals(self) -> np.ndarray:
        """Return the sum over documents of (c_d - share n_d)^2, [..., L, E]."""
        share = self.share()
        return np.maximum(self.c2 - 2 * share * self.cn + share**2 * _wide(self.n2), 0)

    def relative_variance(self) -> np.ndarray:
        """Return the variance of each share over documents, divided by its square; NaN if it has no selection.

        It is the ratio estimator's, as in `model.trace.documents.ratio_error`, computed from the sums.
        """
        d = _wide(self.documents).astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = d / (d - 1) * self.squared_residuals() / self.c.astype(float) ** 2
        return np.where((self.c > 0) & (d > 1), variance, np.nan)


def _wide(values: np.ndarray) -> np.ndarray:
    return np.asarray(values)[..., None, None]


def of_documents(counts_DLE: np.ndarray, n_D: np.ndarray, group_ND: np.ndarray, num_groups: int) -> Sums:
    """Return the sums of each group of documents, [..., G, L, E].

    Args:
        counts_DLE: selections of each expert in each document.
        n_D: selections in each document and layer.
        group_ND: number of each document's group, [..., D]; -1 leaves the document out. Leading axes hold other
            groupings of the same documents.
        num_groups: number of groups.
    """
    num_documents, num_layers, num_experts = counts_DLE.shape
    # Products of floats are fast, and exact to 2^53.
    member = (group_ND[..., None, :] == np.arange(num_groups)[:, None]).astype(float)
    member_RD = member.reshape(int(np.prod(member.shape[:-1])), num_documents)
    c, c2, cn, hit = (np.empty((len(member_RD), num_layers, num_experts), np.int64) for _ in range(4))
    for layer in range(num_layers):
        counts_DE = counts_DLE[:, layer].astype(float)
        c[:, layer] = member_RD @ counts_DE
        c2[:, layer] = member_RD @ counts_DE**2
        cn[:, layer] = member_RD @ (counts_DE * n_D[:, None])
        hit[:, layer] = member_RD @ (counts_DE > 0).astype(float)
    cells = [values.reshape(*member.shape[:-1], num_layers, num_experts) for values in (c, c2, cn, hit)]
    sizes = (n_D.astype(float), n_D.astype(float) ** 2, (n_D > 0).astype(float))
    return Sums(*cells, *((member @ values).astype(np.int64) for values in sizes))


def of_strata(sweep: Sweep, token_class: str = "all") -> tuple[pd.DataFrame, Sums]:
    """Return the strata of a token class, a row each, and their sums, [S, L, E]."""
    strata = sweep.strata.loc[sweep.strata["token_class"] == token_class].reset_index(drop=True)
    cells = sweep.cells.loc[sweep.cells["token_class"] == token_class, _COLUMNS]
    group_R = pd.Index(strata["stratum"]).get_indexer(pd.Index(cells["stratum"]))
    layer_R = pd.Index(sweep.layers).get_indexer(pd.Index(cells["layer"]))
    places = group_R, layer_R, cells["expert"].to_numpy()
    sums = {name: np.zeros((len(strata), len(sweep.layers), sweep.num_experts), np.int64) for name, _ in _FIELDS}
    for name, column in _FIELDS:
        np.add.at(sums[name], places, cells[column].to_numpy())
    sums |= {name: strata[column].to_numpy(np.int64) for name, column in _SIZES}
    return strata, Sums(**sums)


def of_all(sweep: Sweep, token_class: str = "all") -> Sums:
    """Return the sums over all documents, [L, E]."""
    return of_strata(sweep, token_class)[1].total()


def by_label(sweep: Sweep, kind: str, token_class: str = "all") -> tuple[list[str], Sums]:
    """Return the labels of a kind in alphabetical order, and their sums, [G, L, E]; unlabelled documents are left out.

    Args:
        sweep: the sweep.
        kind: "domain", "language" or "source".
        token_class: the class of tokens to count.
    """
    strata, sums = of_strata(sweep, token_class)
    labels, group_S = numbered(strata[kind].fillna("").to_numpy(dtype=np.str_))
    return labels, sums.added(group_S, len(labels))


def numbered(names: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Return the different names in alphabetical order without "", and each entry's number; -1 for "".

    >>> labels, numbers = numbered(np.array(["code", "", "books", "code"]))
    >>> labels, numbers.tolist()
    (['books', 'code'], [1, -1, 0, 1])
    """
    labels = sorted(set(names.tolist()) - {""})
    return labels, pd.Index(labels, dtype=object).get_indexer(pd.Index(names.astype(object)))
