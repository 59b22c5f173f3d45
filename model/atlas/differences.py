"""What moved between two sweeps: two models, two corpora, or one model before and after tuning.

Sweeps of the same documents are compared document by document, which takes out how documents differ; others as two
independent samples of documents.

Shape suffixes: D documents, G labels, L MoE layers, E experts.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from model.atlas.discovery import LEVEL, adjusted
from model.atlas.errors import AtlasError
from model.atlas.folder import Sweep
from model.atlas.lift import SURVIVES, judged, lift, shuffle_p
from model.atlas.share import CELL, coordinates
from model.atlas.sums import Sums, numbered, of_documents
from model.trace.documents import FEW, t_quantile, two_sided_p

MOVED = 0.25  # smallest |log2 ratio| that is called a move: 19 % more, or 16 % less
SAME = 0.9  # part of the documents of both sweeps that must be the same to compare document by document


def refusal(before: Sweep, after: Sweep) -> str | None:
    """Return why two sweeps cannot be compared, in one line; None if they can."""
    one, other = before.manifest, after.manifest
    pairs = {
        "window policies": (dict(one.policy), dict(other.policy)),
        "tokenizers": (one.model.get("tokenizer_sha256"), other.model.get("tokenizer_sha256")),
        "token classes": (one.request.get("token_classes"), other.request.get("token_classes")),
        "MoE layers": (before.layers, after.layers),
        "numbers of experts": (before.num_experts, after.num_experts),
    }
    differing = [name for name, (mine, theirs) in pairs.items() if mine != theirs]
    if not differing:
        return None
    return f"the sweeps differ in their {' and '.join(differing)}, so their loads cannot be compared"


def differences(
    before: Sweep, after: Sweep, kind: str | None = None, level: float = LEVEL, floor: float = MOVED
) -> xr.Dataset:
    """Return how the load share of each expert moved from one sweep to the other.

    Variables [label, moe_layer, expert]: `before` and `after` (shares), `change` (log2 of after over before), `error`,
    `low`, `high`, `p`, `q` (adjusted over all cells) and `moved`: q up to `level`, and |change| of `floor` or more.
    Variables [label]: `documents_before`, `documents_after`, `few` (either below 60). Without `kind` there is no axis
    of labels. Attributes: `paired`, whether documents were compared one by one, and `shared`, how many both have.

    Args:
        before: the first sweep.
        after: the second sweep.
        kind: compare by label: "domain", "language" or "source"; a label that one sweep lacks is left out.
        level: accepted part of false calls.
        floor: smallest |change| that is called.

    Raises:
        AtlasError: the sweeps cannot be compared; `refusal` says why.
    """
    if reason := refusal(before, after):
        raise AtlasError(reason)
    rows = _shared(before, after)
    shared = len(rows[0])
    paired = shared >= SAME * max(len(before.documents), len(after.documents))
    if not paired:
        rows = np.arange(len(before.documents)), np.arange(len(after.documents))
    labels, one, other = _sides(before, after, rows, kind)
    testable = judged(other.sums, one.sums) == SURVIVES
    moves = _paired(one, other) if paired else _unpaired(one, other)
    result = {name: np.where(testable | (name == "change"), values, np.nan) for name, values in moves.items()}
    result["q"] = adjusted(result["p"])
    result |= {"before": one.sums.share(), "after": other.sums.share()}
    result["moved"] = (result["q"] <= level) & (np.abs(result["change"]) >= floor)
    columns = {"documents_before": one.sums.documents, "documents_after": other.sums.documents}
    columns["few"] = np.minimum(*columns.values()) < FEW
    data = xr.Dataset(
        {name: (("label", *CELL), values) for name, values in result.items()}
        | {name: (("label",), values) for name, values in columns.items()},
        coordinates(before) | {"label": labels},
        {"paired": paired, "shared": shared, "level": level, "floor": floor},
    )
    return data if kind else data.isel(label=0, drop=True)


class _Side(NamedTuple):
    """The documents of one sweep that are compared: counts, selections, number of the label, and sums by label."""

    counts_DLE: np.ndarray
    n_D: np.ndarray
    label_D: np.ndarray
    sums: Sums


def _shared(before: Sweep, after: Sweep) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the documents that both sweeps have, in the same order; of repeated ones the first."""
    one, other = (sweep.documents["doc_id"].to_numpy(dtype=np.str_) for sweep in (before, after))
    return np.intersect1d(one, other, return_indices=True)[1:]


def _sides(
    before: Sweep, after: Sweep, rows: tuple[np.ndarray, np.ndarray], kind: str | None
) -> tuple[list[str], _Side, _Side]:
    """Return the labels that both sweeps have, and their documents of these rows."""
    names = [
        sweep.labels(kind)[row] if kind else np.full(len(row), "all")
        for sweep, row in zip((before, after), rows, strict=True)
    ]
    labels = [label for label in numbered(names[0])[0] if label in set(names[1].tolist())]
    sides = []
    for sweep, row, name_D in zip((before, after), rows, names, strict=True):
        label_D = pd.Index(labels, dtype=object).get_indexer(pd.Index(name_D.astype(object)))
        documents = sweep.counts_DLE[row], sweep.selections_D[row], label_D
        sides.append(_Side(*documents, of_documents(*documents, len(labels))))
    return labels, *sides


def _unpaired(one: _Side, other: _Side) -> dict[str, np.ndarray]:
    """Return the moves of independent documents, [G, L, E] each."""
    measured = lift(other.sums, one.sums)
    p = np.fmax(two_sided_p(measured.lift / measured.error, measured.degrees), shuffle_p(other.sums, one.sums))
    return _moves(measured.lift, measured.error, measured.degrees, p)


def _paired(one: _Side, other: _Side) -> dict[str, np.ndarray]:
    """Return the moves of the same documents, [G, L, E] each; document d of both sides has the label of `one`.

    A document moves ln(after / before) by c'_d / c' - n'_d / n' - c_d / c + n_d / n. A second test guards against an
    error that is too small by chance, as in `lift`: the sum of c'_d - c_d n'_d / n_d against random signs. An expert
    without a selection on one side has the error of independent documents.
    """
    measured = lift(other.sums, one.sums)
    error, p = measured.error.copy(), np.full(measured.error.shape, np.nan)
    documents = np.maximum(one.sums.documents, 2)[:, None, None]
    for label in range(len(error)):
        rows = (one.label_D == label) & (one.n_D > 0) & (other.n_D > 0)
        moved_DLE = np.zeros((rows.sum(), *error.shape[1:]))
        with np.errstate(invalid="ignore", divide="ignore"):
            for side, sign in ((other, 1), (one, -1)):
                size_D = side.n_D[rows] / side.sums.n[label]
                moved_DLE += sign * (side.counts_DLE[rows] / side.sums.c[label] - size_D[:, None, None])
            squares = (moved_DLE**2).sum(0) * documents[label] / (documents[label] - 1)
            scale_D = other.n_D[rows] / one.n_D[rows]
            excess_DLE = other.counts_DLE[rows] - one.counts_DLE[rows] * scale_D[:, None, None]
            flipped = excess_DLE.sum(0) / np.sqrt((excess_DLE**2).sum(0))
        error[label] = np.where(np.isfinite(squares), np.sqrt(squares) / np.log(2), error[label])
        p[label] = two_sided_p(flipped, documents[label] - 1.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = np.fmax(p, two_sided_p(measured.lift / error, documents - 1.0))
    p = np.where(measured.lift == 0, 1.0, p)
    return _moves(measured.lift, error, documents - 1.0, p)


def _moves(change: np.ndarray, error: np.ndarray, degrees: np.ndarray, p: np.ndarray) -> dict[str, np.ndarray]:
    reach = t_quantile(0.975, degrees) * error
    return {"change": change, "error": error, "low": change - reach, "high": change + reach, "p": p}
