"""Judge a placement on the half of the loads that it was not fitted to.

Balancedness is the mean load of the ranks divided by the largest, a figure for each layer: 1 if even. Ranks wait for
each other in every batch, so the balancedness over a whole corpus flatters: batches of a few documents are less even.
No figure here is a time.

Shape suffixes: U units (documents or windows), W windows, L MoE layers, E experts, D ranks.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import xarray as xr

from model.atlas.placement.loads import DOCUMENTS
from model.atlas.placement.plan import Plan
from model.trace.documents import FEWEST, ratio_interval
from model.trace.metrics import balancedness
from model.trace.placement import Placement

BATCHES = (1, 4, 16, 64)  # documents that are served together
NUM_STRETCHES = 20  # windows in the order of the corpus
_AT_ONCE = 64  # windows whose loads are computed together, which bounds memory


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over windows and its 95 % interval; the interval is None if there are too few windows."""

    mean: float
    interval: tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class Windows:
    """The balancedness of windows of held-out units, the mean of the layers.

    Attributes:
        name: what a window holds.
        number: number of windows.
        numbered: with experts placed by number; None if they do not divide evenly.
        placed: with the placement.
        gain: the placement's figure less the other one, window by window.
    """

    name: str
    number: int
    numbered: Estimate | None
    placed: Estimate
    gain: Estimate | None


@dataclasses.dataclass(frozen=True)
class Alone:
    """The balancedness if only the documents of one label are served, the mean of the layers.

    Attributes:
        label: the label.
        documents: number of its documents that were not fitted.
        numbered: with experts placed by number; NaN if they do not divide evenly.
        held_out: with the placement.
    """

    label: str
    documents: int
    numbered: float
    held_out: float


def by_layer(plan: Plan) -> xr.Dataset:
    """Return the balancedness of each layer, [moe_layer]; NaN where it is unknown.

    Returns:
        `numbered`: experts placed by number, on the held-out half. `fit`: the placement, on the half that it was fitted
        to. `held_out`: the placement, on the other half. If nothing is held out, `numbered` is on the same half as
        `fit`.
    """
    fit = plan.load(plan.fit_U)
    held = plan.load(plan.held_U) if plan.held_U.any() else None
    unknown = xr.full_like(fit.isel(expert=0), np.nan, dtype=float)

    def figures(placement: Placement | None, load: xr.DataArray | None) -> xr.DataArray:
        return unknown if placement is None or load is None else balancedness(placement.load(load), "device")

    return xr.Dataset(
        {
            "numbered": figures(plan.numbered, fit if held is None else held),
            "fit": figures(plan.placement, fit),
            "held_out": figures(plan.placement, held),
        }
    )


def means(layers: xr.Dataset) -> dict[str, float]:
    """Return the figures of `by_layer`, which gave `layers`, by name, the mean of the layers."""
    return {str(name): float(values) for name, values in layers.mean().items()}


def by_label(plan: Plan) -> list[Alone]:
    """Return the figures of each label with at least `FEWEST` documents that were not fitted, the lowest first."""
    labels = plan.loads.labels_U
    results = []
    for label in [] if labels is None else np.unique(labels[labels != ""]).tolist():
        mask = (labels == label) & ~plan.fit_U
        number = int(mask.sum())
        if number >= FEWEST:
            counts_1LE = plan.loads.counts_ULE[mask].sum(0, keepdims=True)
            numbered, held_out = (float(_balance(placed, counts_1LE)[0]) for placed in (plan.numbered, plan.placement))
            results.append(Alone(label, number, numbered, held_out))
    return sorted(results, key=lambda alone: alone.held_out)


def by_windows(plan: Plan) -> list[Windows]:
    """Return the balancedness of windows of held-out units: stretches in order, and batches drawn at random.

    With a mix, documents are left out at random until each label has its share of the tokens. No interval is given for
    fewer than `FEWEST` windows, or for windows of counts, because neighbours are not independent.
    """
    units = _mixed(plan)
    documents = plan.loads.unit == DOCUMENTS
    shuffled = np.random.default_rng(plan.seed + 1).permutation(units)
    results = []
    if len(units) >= 2:
        parts = np.array_split(units, min(NUM_STRETCHES, len(units)))
        results.append(_windows(plan, f"{len(parts)} stretches {'of the corpus' if documents else 'in time'}", parts))
    for size in BATCHES if documents else ():
        number = len(shuffled) // size
        if number:
            name = "1 document at a time" if size == 1 else f"{size} documents at a time"
            results.append(_windows(plan, name, np.split(shuffled[: number * size], number)))
    return results


def _mixed(plan: Plan) -> np.ndarray:
    """Return the held-out units in order, thinned at random to the mix."""
    units, labels = np.flatnonzero(plan.held_U), plan.loads.labels_U
    if plan.mix is None or labels is None:
        return units
    size_U = plan.loads.counts_ULE[:, 0].sum(-1)
    tokens = {label: int(size_U[units[labels[units] == label]].sum()) for label in plan.mix}
    scale = min(tokens[label] / share for label, share in plan.mix.items())
    kept: list[np.ndarray] = []
    generator = np.random.default_rng(plan.seed + 2)
    for label, share in plan.mix.items():
        of_label = units[labels[units] == label]
        number = round(len(of_label) * share * scale / tokens[label])
        kept.append(generator.permutation(of_label)[:number])
    return np.sort(np.concatenate(kept))


def _windows(plan: Plan, name: str, parts: list[np.ndarray]) -> Windows:
    counts = (plan.loads.counts_ULE[part].sum(0) for part in parts)
    placed_W, numbered_W = [], []
    for some in _batched(counts):
        placed_W.append(_balance(plan.placement, some))
        numbered_W.append(_balance(plan.numbered, some))
    placed, numbered = np.concatenate(placed_W), np.concatenate(numbered_W)
    independent = plan.loads.unit == DOCUMENTS
    known = plan.numbered is not None
    return Windows(
        name,
        len(parts),
        _estimate(numbered, independent) if known else None,
        _estimate(placed, independent),
        _estimate(placed - numbered, independent) if known else None,
    )


def _batched(counts: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield windows together, [W, L, E]."""
    some: list[np.ndarray] = []
    for window in counts:
        some.append(window)
        if len(some) == _AT_ONCE:
            yield np.stack(some)
            some = []
    if some:
        yield np.stack(some)


def _balance(placement: Placement | None, counts_WLE: np.ndarray) -> np.ndarray:
    """Return the balancedness of each window, the mean of its layers, [W]; NaN without a placement."""
    if placement is None:
        return np.full(len(counts_WLE), np.nan)
    load = xr.DataArray(placement.loads(counts_WLE), dims=("window", "moe_layer", "device"))
    return balancedness(load, "device").mean("moe_layer").values


def _estimate(values_W: np.ndarray, independent: bool) -> Estimate:
    low, high = ratio_interval(values_W, np.ones(len(values_W)))
    known = independent and bool(np.isfinite(low))
    return Estimate(float(values_W.mean()), (float(low), float(high)) if known else None)
