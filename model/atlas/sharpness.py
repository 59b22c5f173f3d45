"""How sharp the router is, by layer and label: margins, near ties, entropy of the load, gate weights.

A margin is the lowest selected biased score minus the best one that was not selected.

Shape suffixes: D documents, G labels, L MoE layers, E experts, B bins.
"""

import numpy as np
import pandas as pd
import xarray as xr

from model.atlas.folder import Sweep
from model.atlas.schema import MARGIN_BINS, MARGIN_COLUMNS, MARGIN_EDGES
from model.atlas.share import CELL, coordinates
from model.atlas.sums import by_label, numbered, of_all
from model.trace.documents import FEW, ratio_interval

NEAR = 1e-3  # a margin below this is near; it is an edge of the bins


def sharpness(sweep: Sweep, kind: str | None = None) -> xr.Dataset:
    """Return how sharp the router decides, over all documents or by label.

    Variables [label, moe_layer]: `near` (share of selections with a margin below `NEAR`), `margin` (median), `entropy`
    of the load over its maximum, with `entropy_low` and `entropy_high` over documents. Variable [label, moe_layer,
    expert]: `gate_weight`, the mean over an expert's selections. Variables [label]: `documents` and `few`. What the
    sweep cannot give is absent. Margins have no interval: their sums do not hold the spread over documents.

    Args:
        sweep: the sweep.
        kind: "domain", "language" or "source"; None: all documents together.
    """
    if kind:
        labels, sums = by_label(sweep, kind)
        group_D = numbered(sweep.labels(kind))[1]
    else:
        labels, sums, group_D = None, of_all(sweep)[None], np.zeros(len(sweep.documents), int)
    variables = {"documents": (("label",), sums.documents), "few": (("label",), sums.documents < FEW)}
    entropies = [entropy(sweep.counts_DLE[group_D == group], sweep.selections_D[group_D == group])
                 for group in range(len(sums.n))]  # fmt: skip
    for place, name in enumerate(("entropy", "entropy_low", "entropy_high")):
        values = np.array([each[place] for each in entropies])
        variables[name] = (("label", "moe_layer"), values.reshape(len(sums.n), len(sweep.layers)))
    names = [name for name in ("weight_sum", *MARGIN_COLUMNS) if name in sweep.cells]
    added = _added(sweep, kind, labels, names)
    if "weight_sum" in added:
        with np.errstate(invalid="ignore", divide="ignore"):
            variables["gate_weight"] = (("label", *CELL), added["weight_sum"] / sums.c)
    if MARGIN_COLUMNS[0] in added:
        bins_GLB = np.stack([added[name].sum(-1) for name in MARGIN_COLUMNS], axis=-1)
        near, middle = margins(bins_GLB)
        variables |= {"near": (("label", "moe_layer"), near), "margin": (("label", "moe_layer"), middle)}
    result = xr.Dataset(variables, coordinates(sweep) | {"label": [""] if labels is None else labels}, {"near": NEAR})
    return result if labels is not None else result.isel(label=0, drop=True)


def entropy(counts_DLE: np.ndarray, n_D: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the entropy of the load over its maximum, and its interval over documents, [L] each.

    The entropy is the mean of -log p over selections, so it is a ratio over documents. NaN below 20 documents.

    Args:
        counts_DLE: selections of each expert in each document.
        n_D: selections in each document and layer.
    """
    total_LE = counts_DLE.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        surprise_LE = np.where(total_LE > 0, -np.log(total_LE / n_D.sum()), 0) / np.log(counts_DLE.shape[-1])
    parts_DL = np.einsum("dle,le->dl", counts_DLE, surprise_LE)
    low_L, high_L = ratio_interval(parts_DL, n_D)
    return parts_DL.sum(0) / n_D.sum(), low_L, high_L


def margins(bins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of margins below `NEAR`, and the median margin, from counts by bin, [..., B].

    The median lies between the edges of its bin by its rank, on the logarithmic scale of the edges.

    >>> margins(np.array([0] * 9 + [1, 3] + [0] * 5))[0].item()
    0.25
    """
    total = bins.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        near = bins[..., MARGIN_EDGES[1:] < NEAR * 1.0001].sum(-1) / total
        below = np.cumsum(bins, axis=-1)
        place = np.minimum((below < total[..., None] / 2).sum(-1), MARGIN_BINS - 1)[..., None]
        within = np.take_along_axis(bins, place, -1)
        rank = (total[..., None] / 2 - np.take_along_axis(below, place, -1) + within) / within
    edges = np.log10(MARGIN_EDGES)
    middle = 10 ** (edges[place] + rank * (edges[1] - edges[0]))[..., 0]
    return near, np.where(total > 0, middle, np.nan)


def _added(sweep: Sweep, kind: str | None, labels: list[str] | None, names: list[str]) -> dict[str, np.ndarray]:
    """Return columns of the table of counts, added by label, [G, L, E] each."""
    columns = ["stratum", "layer", "expert", *names]
    cells = sweep.cells.loc[sweep.cells["token_class"] == "all", columns]
    strata = sweep.strata.loc[sweep.strata["token_class"] == "all"]
    group_S = np.zeros(len(strata), int) if kind is None else numbered(strata[kind].fillna("").to_numpy(np.str_))[1]
    group_R = group_S[pd.Index(strata["stratum"]).get_indexer(pd.Index(cells["stratum"]))]
    layer_R = pd.Index(sweep.layers).get_indexer(pd.Index(cells["layer"]))
    shape = (1 if labels is None else len(labels), len(sweep.layers), sweep.num_experts)
    kept = group_R >= 0
    places = np.ravel_multi_index((group_R[kept], layer_R[kept], cells["expert"].to_numpy()[kept]), shape)
    values = cells.loc[kept, names]
    return {
        name: np.bincount(places, values[name].to_numpy(float), minlength=int(np.prod(shape))).reshape(shape)
        for name in names
    }
