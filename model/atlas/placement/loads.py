"""The loads that a placement is fitted to and judged on: documents of a sweep, or windows of counted selections.

Shape suffixes: U units (documents or windows), L MoE layers, E experts.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from model.atlas.errors import AtlasError
from model.atlas.folder import Sweep
from model.trace.documents import FEWEST
from model.trace.imports.counts import Counts

DOCUMENTS, WINDOWS = "documents", "windows"
FEWEST_DOCUMENTS = 60  # below, half of them are too few to fit a placement, and the other half to judge it


@dataclasses.dataclass(frozen=True, eq=False)
class Loads:
    """Selections of experts in units that were routed apart.

    Attributes:
        counts_ULE: selections, in the order of the corpus or of time.
        layers: numbers of the MoE layers in the model.
        unit: `DOCUMENTS` or `WINDOWS`.
        num_layers: number of all layers of the model; None if unknown.
        num_groups: number of routing groups.
        labels_U: label of each unit, "" if it has none; None if the units have no labels.
        kind: kind of the labels, for example "domain".
        extent: what was counted, in words.
        notes: notes on what limits the loads.
    """

    counts_ULE: np.ndarray
    layers: tuple[int, ...]
    unit: str
    num_layers: int | None
    num_groups: int
    labels_U: np.ndarray | None = None
    kind: str = ""
    extent: str = ""
    notes: tuple[str, ...] = ()


def of_sweep(sweep: Sweep, kind: str | None = None) -> Loads:
    """Return the loads of a sweep's documents that have counted tokens.

    Args:
        sweep: the sweep.
        kind: kind of the labels: "domain", "language" or "source"; None: domains, if the documents have them.

    Raises:
        AtlasError: there are fewer than `FEWEST_DOCUMENTS` documents, or none has a label of the kind given.
    """
    counted_D = sweep.counts_DLE.any((1, 2))
    counts = sweep.counts_DLE if counted_D.all() else sweep.counts_DLE[counted_D]
    if len(counts) < FEWEST_DOCUMENTS:
        raise AtlasError(
            f"the sweep has {len(counts)} documents; a placement needs at least {FEWEST_DOCUMENTS}, half of them to be "
            "judged on"
        )
    labels = sweep.labels(kind or "domain")[counted_D]
    if kind is not None and not (labels != "").any():
        raise AtlasError(f"no document of the sweep has a {kind}")
    config = sweep.manifest.model.get("config") or {}
    tokens = int(sweep.documents["tokens"].to_numpy(np.int64).sum())
    return Loads(
        counts_ULE=counts,
        layers=sweep.layers,
        unit=DOCUMENTS,
        num_layers=_number(config, "num_hidden_layers"),
        num_groups=_number(config, "n_group") or 1,
        labels_U=labels,
        kind=kind or "domain",
        extent=f"{len(counts):,} documents, {tokens:,} tokens",
    )


def of_counts(counts: Counts) -> Loads:
    """Return the loads of imported counts: a unit for each window."""
    shape = counts.named.shape
    return Loads(
        counts_ULE=counts.windows.transpose("window", "moe_layer", "expert").values,
        layers=shape.moe_layers,
        unit=WINDOWS,
        num_layers=shape.num_layers,
        num_groups=shape.num_groups,
        extent=f"{counts.extent()} ({counts.program})",
        notes=counts.notes,
    )


def _number(config: Mapping[str, Any], key: str) -> int | None:
    """Return a positive whole number of a config.json, which may stand in the part about text; None if it has none."""
    parts = (config, config.get("text_config"))
    values = [part.get(key) for part in parts if isinstance(part, Mapping)]
    return next((value for value in values if type(value) is int and value > 0), None)


def parse_mix(text: str) -> dict[str, float]:
    """Return the weight of each label in a text such as "code=3,maths=1", as shares of 1.

    Raises:
        AtlasError: a part has no weight or no positive one, or a label stands twice.
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        label, mark, number = part.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = 0.0
        if not mark or not 0 < weight < float("inf"):
            raise AtlasError(f"{part!r} of the mix {text!r} has no weight; write each label as LABEL=WEIGHT")
        if label.strip() in weights:
            raise AtlasError(f"the mix {text!r} names {label.strip()} twice")
        weights[label.strip()] = weight
    total = sum(weights.values())
    return {label: weight / total for label, weight in weights.items()}


def own_mix(loads: Loads) -> dict[str, float]:
    """Return the share of each label in all selections, the largest first; empty if the units have no labels."""
    if loads.labels_U is None or not (loads.labels_U != "").any():
        return {}
    size_U = loads.counts_ULE.sum((1, 2))
    labels, index_U = np.unique(loads.labels_U, return_inverse=True)
    share = np.bincount(index_U, size_U) / size_U.sum()
    return {str(labels[at]) or "no label": float(share[at]) for at in np.argsort(-share, kind="stable").tolist()}


def check_mix(loads: Loads, mix: Mapping[str, float]) -> None:
    """Check that the units have the labels of a mix.

    Raises:
        AtlasError: a label has fewer than `FEWEST` documents, or all of them together fewer than `FEWEST_DOCUMENTS`.
    """
    labels = np.array([]) if loads.labels_U is None else loads.labels_U
    numbers = {label: int((labels == label).sum()) for label in mix}
    for label, number in numbers.items():
        if number < FEWEST:
            known = ", ".join(sorted(set(labels.tolist()) - {""}))
            raise AtlasError(
                f"{number} documents have the {loads.kind} {label!r}, and a mix needs at least {FEWEST} of each; the "
                f"sweep has {known:.300}"
            )
    if sum(numbers.values()) < FEWEST_DOCUMENTS:
        raise AtlasError(
            f"{sum(numbers.values())} documents have a label of the mix; a placement needs at least {FEWEST_DOCUMENTS}"
        )
