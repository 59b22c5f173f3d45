"""How much an expert tells about the label of its document: mutual information, less what chance gives.

Mutual information of counts is above 0 even if experts are independent of labels. Its mean over shuffles of the labels
among documents is what chance gives, and is subtracted. Documents are shuffled, not tokens, because the tokens of one
document are not independent: the Miller-Madow correction, by the number of tokens, takes off far too little. Shuffles
within a second label, such as the language, leave what the first label adds to it.

Shape suffixes: D documents, K labels, L MoE layers, E experts, N shuffles.
"""

import numpy as np
import xarray as xr

from model.atlas.folder import Sweep
from model.atlas.sums import numbered
from model.trace.documents import FEWEST
from model.trace.information import counts_by_label, mutual_information

SHUFFLES = 200
FEWEST_SHUFFLES = 39  # p is then 0.025 at least
_BLOCK = 200_000  # entries of an array of an intermediate result
MOST_PRODUCTS = 2e11  # multiplications of all shuffles together, some seconds; larger sweeps get fewer shuffles


def shuffled(label_D: np.ndarray, within_D: np.ndarray, draws: int, seed: int = 0) -> np.ndarray:
    """Return shuffled labels of documents, [N, D]; a label moves only among documents of equal `within_D`."""
    keys_ND = within_D + np.random.default_rng(seed).random((draws, len(label_D)))
    result_ND = np.empty((draws, len(label_D)), label_D.dtype)
    result_ND[:, np.argsort(within_D, kind="stable")] = label_D[np.argsort(keys_ND, axis=1)]
    return result_ND


def informations(counts_DLE: np.ndarray, labels_ND: np.ndarray) -> np.ndarray:
    """Return the mutual information in bits for each labelling of the documents, [N, L].

    Args:
        counts_DLE: selections of each expert in each document.
        labels_ND: number of each document's label, in each labelling.
    """
    num_labels, (num_documents, num_layers, num_experts) = int(labels_ND.max()) + 1, counts_DLE.shape
    result_NL = np.empty((len(labels_ND), num_layers))
    layers = max(1, _BLOCK // (num_documents * num_experts))
    draws = max(1, _BLOCK // (num_labels * max(num_documents, layers * num_experts)))
    for first in range(0, num_layers, layers):
        part = slice(first, first + layers)
        counts_DC = counts_DLE[:, part].reshape(num_documents, -1).astype(np.float32)  # exact below 2^24 selections
        for draw in range(0, len(labels_ND), draws):
            member_NKD = labels_ND[draw : draw + draws, None] == np.arange(num_labels)[:, None]
            joint = member_NKD.reshape(-1, num_documents).astype(np.float32) @ counts_DC
            joint_NKLE = joint.astype(float).reshape(-1, num_labels, counts_DC.shape[1] // num_experts, num_experts)
            result_NL[draw : draw + draws, part] = mutual_information(joint_NKLE) / np.log(2)
    return result_NL


def information(sweep: Sweep, kind: str, within: str | None = None, seed: int = 0) -> xr.Dataset:
    """Return the mutual information of expert and label in each layer, in bits per selection.

    Variables [moe_layer]: `plug_in`, `chance` (mean over shuffles), `corrected` (their difference, negative values are
    kept), `spread` (standard deviation of the shuffles), and `p`, (1 + shuffles that reach `plug_in`) / (1 + shuffles).
    `corrected` and `p` are NaN below 20 documents. Attributes: `kind`, `within`, `documents`, `labels`, `shuffles`.
    Documents without a label of either kind are left out.

    Args:
        sweep: the sweep.
        kind: the label: "domain", "language" or "source".
        within: shuffle only among documents with the same label of this kind; None: among all.
        seed: seed of the shuffles.
    """
    labels, label_D = numbered(sweep.labels(kind))
    within_D = numbered(sweep.labels(within))[1] if within else np.zeros(len(label_D), int)
    kept_D = (label_D >= 0) & (within_D >= 0)
    label_D, within_D = label_D[kept_D], within_D[kept_D]
    counts_DLE = sweep.counts_DLE if kept_D.all() else sweep.counts_DLE[kept_D]
    num_layers, missing = len(sweep.layers), np.full(len(sweep.layers), np.nan)
    columns = dict.fromkeys(("plug_in", "chance", "corrected", "spread", "p"), missing)
    draws = 0
    if len(label_D):
        plug_in_L = mutual_information(counts_by_label(counts_DLE, label_D)) / np.log(2)
        columns["plug_in"] = plug_in_L
        draws = shuffles(counts_DLE.size * len(labels))
    if len(label_D) >= FEWEST:
        shuffled_NL = informations(counts_DLE, shuffled(label_D, within_D, draws, seed))
        columns |= against(columns["plug_in"], shuffled_NL)
    return xr.Dataset(
        {name: (("moe_layer",), np.asarray(values).reshape(num_layers)) for name, values in columns.items()},
        {"moe_layer": list(sweep.layers)},
        {"kind": kind, "within": within or "", "documents": len(label_D), "labels": len(labels), "shuffles": draws},
    )


def against(plug_in_L: np.ndarray, shuffled_NL: np.ndarray) -> dict[str, np.ndarray]:
    """Return `chance`, `corrected`, `spread` and `p` of each layer, from its values on shuffled labels."""
    chance_L = shuffled_NL.mean(0)
    reached_L = (shuffled_NL >= plug_in_L - 1e-9).sum(0)
    return {
        "chance": chance_L,
        "corrected": plug_in_L - chance_L,
        "spread": shuffled_NL.std(0, ddof=1),
        "p": (1 + reached_L) / (1 + len(shuffled_NL)),
    }


def shuffles(products: float) -> int:
    """Return the number of shuffles for a sweep of which one shuffle takes this many multiplications.

    >>> shuffles(4000 * 5 * 32 * 9), shuffles(4000 * 58 * 256 * 40)
    (200, 84)
    """
    return int(np.clip(MOST_PRODUCTS // max(products, 1), FEWEST_SHUFFLES, SHUFFLES))
