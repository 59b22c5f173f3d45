"""Documents whose tokens' experts are known, and the tables of a sweep that follow from them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from model.atlas.folder import Sweep, open_sweep
from tests.sweeps import write_sweep


def sweep_of(folder: Path, documents: Sequence[np.ndarray], num_experts: int, **fields: Any) -> Sweep:
    """Return a sweep of documents, each the experts [token, layer, rank] of its tokens, with pairs and transitions."""
    masks = [mask_of(ids, num_experts) for ids in documents]
    counts_DLE = np.stack([mask_TLE.sum(0) for mask_TLE in masks])
    num_layers = counts_DLE.shape[1]
    within = [
        (layer, layer, i, j)
        for layer in range(num_layers)
        for i in range(num_experts)
        for j in range(i + 1, num_experts)
    ]
    across = [
        (layer, layer + 1, i, j)
        for layer in range(num_layers - 1)
        for i in range(num_experts)
        for j in range(num_experts)
    ]
    tables = {"pairs": _table(masks, counts_DLE, within)}
    if across:
        tables["transitions"] = _table(masks, counts_DLE, across).drop(columns="ci_cj")
    write_sweep(folder, counts_DLE, top_k=documents[0].shape[-1], **tables, **fields)
    return open_sweep(folder)


def mask_of(ids_TLK: np.ndarray, num_experts: int) -> np.ndarray:
    """Return which experts each token selects, int64 [token, layer, expert]."""
    return (ids_TLK[..., None] == np.arange(num_experts)).any(-2).astype(np.int64)


def _table(masks: list[np.ndarray], counts_DLE: np.ndarray, rows: list[tuple[int, int, int, int]]) -> pd.DataFrame:
    n = counts_DLE[:, 0].sum(-1)
    table = []
    for first, second, i, j in rows:
        a = np.array([(mask[:, first, i] * mask[:, second, j]).sum() for mask in masks])
        c_i, c_j = counts_DLE[:, first, i], counts_DLE[:, second, j]
        products = {"a": a, "a2": a * a, "a_ci": a * c_i, "a_cj": a * c_j, "a_n": a * n, "ci_cj": c_i * c_j}
        sums = {name: values.sum() for name, values in products.items()}
        table += [{"layer": 1 + first, "i": i, "j": j, **sums}] if a.any() else []
    return pd.DataFrame(table)
