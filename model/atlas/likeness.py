"""Which experts of a layer are alike: selected in the same documents, and by the same tokens.

Two experts of one language are selected in the same documents, and need not be alike otherwise. Compare therefore
within domain and language: the residual of an expert in a document is its selections less those that the documents of
the same domain and language give on average, over the root of the document's selections. Similarity is the correlation
of the residuals of two experts over documents. Alike are experts of high similarity that the same tokens select too.
docs/measured.md has the figures of duplicates and of the experts of `mini-v3`, between which the two floors lie.

Shape suffixes: D documents, L MoE layers, E experts, V tokens of the vocabulary.
"""

import numpy as np
import pandas as pd
import xarray as xr

from model.atlas.folder import Sweep
from model.atlas.share import coordinates
from model.trace.documents import FEWEST, t_quantile

ALIKE = 0.8  # smallest correlation that is called alike
SAME_TOKENS = 0.97  # smallest cosine of the counts by token of experts that are called alike


def likeness(sweep: Sweep, floor: float = ALIKE) -> xr.Dataset:
    """Return how alike the experts of each layer are.

    Variables [moe_layer, expert, other_expert], symmetric, NaN on the diagonal: `similarity`, its 95 % interval `low`
    and `high` over documents, `tokens` (cosine of the counts of the tokens that select each expert most; NaN if the
    sweep has no tokens), and `alike`: `low` is at least `floor`, and `tokens` at least `SAME_TOKENS`; a sweep without
    tokens calls none alike. Attributes: `documents`, `floor`, `tokens_floor`. Similarities are NaN below 20 documents,
    and for an expert that fewer than 20 documents select.

    Args:
        sweep: the sweep.
        floor: smallest similarity that is called alike.
    """
    strata_D = pd.factorize(pd.Index(sweep.labels("domain")) + "\n" + pd.Index(sweep.labels("language")))[0]
    kept_D = sweep.selections_D > 0
    counts_DLE, n_D, strata_D = sweep.counts_DLE[kept_D], sweep.selections_D[kept_D], strata_D[kept_D]
    shape = (len(sweep.layers), sweep.num_experts, sweep.num_experts)
    similarity, low, high = (np.full(shape, np.nan) for _ in range(3))
    for layer in range(len(sweep.layers) if len(n_D) >= FEWEST else 0):
        values = residuals(counts_DLE[:, layer], n_D, strata_D)
        values[:, (counts_DLE[:, layer] > 0).sum(0) < FEWEST] = np.nan
        similarity[layer], low[layer], high[layer] = correlations(values)
    similarity[:, np.arange(shape[1]), np.arange(shape[1])] = np.nan
    tokens = np.full(shape, np.nan) if sweep.tokens is None else _cosines(sweep.tokens, sweep)
    alike = (low >= floor) & (tokens >= SAME_TOKENS)
    axes = ("moe_layer", "expert", "other_expert")
    arrays = {"similarity": similarity, "low": low, "high": high, "tokens": tokens, "alike": alike}
    return xr.Dataset(
        {name: (axes, values) for name, values in arrays.items()},
        coordinates(sweep) | {"other_expert": np.arange(shape[1])},
        {"documents": len(n_D), "floor": floor, "tokens_floor": SAME_TOKENS},
    )


def residuals(counts_DE: np.ndarray, n_D: np.ndarray, stratum_D: np.ndarray) -> np.ndarray:
    """Return each document's selections less the expected ones of its stratum, over the root of its selections, [D, E].

    Args:
        counts_DE: selections of each expert in each document.
        n_D: selections in each document, above 0.
        stratum_D: number of each document's stratum, from 0 on.
    """
    member_SD = (stratum_D == np.arange(stratum_D.max() + 1)[:, None]).astype(float)
    share_SE = (member_SD @ counts_DE) / (member_SD @ n_D)[:, None]
    return (counts_DE - n_D[:, None] * share_SE[stratum_D]) / np.sqrt(n_D)[:, None]


def correlations(values_DE: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the correlation r of each pair of columns and its interval over documents, [E, E] each.

    A document moves r by x y - r (x^2 + y^2) / 2, where x and y are its two values over their root mean squares. The
    interval is symmetric in Fisher's artanh r, so it ends before 1.

    Args:
        values_DE: a value of each document for each expert.
        confidence: probability that an interval contains the correlation.
    """
    documents = len(values_DE)
    with np.errstate(invalid="ignore", divide="ignore"):
        z_DE = values_DE / np.sqrt((values_DE**2).mean(0))
        r = z_DE.T @ z_DE / documents
        both, cubes, fourth = (z_DE**2).T @ z_DE**2, (z_DE**3).T @ z_DE, (z_DE**4).sum(0)
        squares = both - r * (cubes + cubes.T) + r**2 / 4 * (fourth[:, None] + fourth + 2 * both)
        error = np.sqrt(np.maximum(squares, 0) * documents / (documents - 1)) / documents
        inside = np.clip(r, -1 + 1e-12, 1 - 1e-12)
        reach = t_quantile((1 + confidence) / 2, documents - 1) * error / (1 - inside**2)
        return r, np.tanh(np.arctanh(inside) - reach), np.tanh(np.arctanh(inside) + reach)


def _cosines(tokens: pd.DataFrame, sweep: Sweep) -> np.ndarray:
    """Return the cosine of the counts by token of each pair of experts in a layer, [L, E, E]; NaN on the diagonal."""
    result = np.full((len(sweep.layers), sweep.num_experts, sweep.num_experts), np.nan)
    for layer, number in enumerate(sweep.layers):
        rows = tokens.loc[tokens["layer"] == number]
        column, ids = pd.factorize(rows["token_id"])
        counts_EV = np.zeros((sweep.num_experts, max(len(ids), 1)))
        counts_EV[rows["expert"].to_numpy(), column] = rows["c"]
        with np.errstate(invalid="ignore", divide="ignore"):
            unit_EV = counts_EV / np.linalg.norm(counts_EV, axis=1, keepdims=True)
        result[layer] = unit_EV @ unit_EV.T
        np.fill_diagonal(result[layer], np.nan)
    return result
