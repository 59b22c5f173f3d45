"""Checks of the tests of lift: how often they call shuffled labels, and whether both halves of a corpus agree.

Shape suffixes: D documents, L MoE layers, E experts.
"""

import numpy as np
import pandas as pd
import xarray as xr

from model.atlas.discovery import FLOOR, LEVEL
from model.atlas.folder import Sweep
from model.atlas.information import shuffled
from model.atlas.lift import CHANCE, SMALL, SURVIVES, calls, judged, lift
from model.atlas.sums import numbered, of_documents

MOST_PRODUCTS = 5e10  # multiplications, some seconds; a larger sweep is checked on a part of its layers


def null(
    sweep: Sweep, kind: str, draws: int = 50, level: float = LEVEL, floor: float = FLOOR, seed: int = 0
) -> xr.Dataset:
    """Return how many cells the tests of `specialists` call when labels are shuffled among documents: all are false.

    Variables [shuffle]: `tests`, `beyond_chance` (adjusted p up to `level`) and `calls` (of these, |lift| of `floor` or
    more). Sources are not left out, so the tests of `specialists` are stricter. Attributes: `false_calls`, the share of
    calls among the tests of all shuffles; `any`, the share of shuffles with a call; `documents`; `layers`, the number
    of layers that were checked, evenly spaced.

    Args:
        sweep: the sweep.
        kind: "domain", "language" or "source".
        draws: number of shuffles.
        level: accepted part of false calls.
        floor: smallest |lift| that is called.
        seed: seed of the shuffles.
    """
    counts_DLE, n_D, label_D, num_labels = _documents(sweep, kind)
    layers = _part(counts_DLE.shape[1], draws * num_labels * counts_DLE[:, 0].size * 4)
    counts: dict[str, list[int]] = {"tests": [], "beyond_chance": [], "calls": []}
    labels_ND = shuffled(label_D, np.zeros(len(label_D), int), draws, seed)
    sums = of_documents(counts_DLE[:, layers], n_D, labels_ND, num_labels)
    for draw in range(draws):
        groups = sums[draw]
        reason = calls(groups, groups.rest(), level, floor)["reason"]
        for name, reasons in (
            ("tests", (CHANCE, SMALL, SURVIVES)), ("beyond_chance", (SMALL, SURVIVES)), ("calls", (SURVIVES,))
        ):  # fmt: skip
            counts[name].append(int(np.isin(reason, reasons).sum()))
    called = np.array(counts["calls"])
    return xr.Dataset(
        {name: (("shuffle",), np.array(values)) for name, values in counts.items()},
        attrs={
            "false_calls": float(called.sum() / max(sum(counts["tests"]), 1)), "any": float((called > 0).mean()),
            "documents": len(label_D), "layers": len(layers),
        },
    )  # fmt: skip


def split_half(sweep: Sweep, kind: str, draws: int = 20, seed: int = 0) -> xr.Dataset:
    """Return how well the lifts of two random halves of the documents agree, over several splits.

    Variables [split]: `spearman`, the rank correlation of the lifts of both halves; `reliability`, that of the whole
    corpus by Spearman and Brown, 2 r / (1 + r); `cells`, the number of lifts that both halves can measure. Both are NaN
    with fewer than three cells. Each label is split in halves.

    Args:
        sweep: the sweep.
        kind: "domain", "language" or "source".
        draws: number of splits.
        seed: seed of the splits.
    """
    counts_DLE, n_D, label_D, num_labels = _documents(sweep, kind)
    layers = _part(counts_DLE.shape[1], draws * num_labels * counts_DLE[:, 0].size * 8)
    place_D = np.argsort(np.argsort(label_D, kind="stable"))  # documents of a label have neighbouring places
    places_ND = shuffled(place_D, label_D, draws, seed)
    sums = of_documents(counts_DLE[:, layers], n_D, 2 * label_D + places_ND % 2, 2 * num_labels)
    columns: dict[str, list[float]] = {"spearman": [], "reliability": [], "cells": []}
    for draw in range(draws):
        halves = [sums[draw][half::2] for half in (0, 1)]
        lifts = [np.where(judged(one, one.rest()) == SURVIVES, lift(one, one.rest()).lift, np.nan) for one in halves]
        both = np.isfinite(lifts[0]) & np.isfinite(lifts[1])
        r = float("nan")
        if both.sum() > 2:
            ranks = [pd.Series(values[both]).rank().to_numpy() for values in lifts]
            r = float(np.corrcoef(ranks)[0, 1])
        columns["spearman"].append(r)
        columns["reliability"].append(2 * r / (1 + r))
        columns["cells"].append(int(both.sum()))
    variables = {name: (("split",), np.array(values)) for name, values in columns.items()}
    return xr.Dataset(variables, attrs={"documents": len(label_D), "layers": len(layers)})


def _documents(sweep: Sweep, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return counts, selections and labels of the documents that have a label, and the number of labels."""
    labels, label_D = numbered(sweep.labels(kind))
    kept_D = label_D >= 0
    return sweep.counts_DLE[kept_D], sweep.selections_D[kept_D], label_D[kept_D], len(labels)


def _part(num_layers: int, products_of_a_layer: int) -> np.ndarray:
    """Return evenly spaced layers that take at most `MOST_PRODUCTS` multiplications, one at least."""
    number = int(np.clip(MOST_PRODUCTS // max(products_of_a_layer, 1), 1, num_layers))
    return np.unique(np.linspace(0, num_layers - 1, number).round().astype(int))
