"""Fit a placement to one half of the loads, and keep the other half to judge it.

Documents are halved at random, by a seed; windows in time at the middle, because neighbours share their requests. A mix
weighs the documents of a label so that the label has its share of the selections.

Shape suffixes: U units (documents or windows), L MoE layers, E experts.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import xarray as xr

from model.atlas.placement.apart import copies_apart
from model.atlas.placement.loads import DOCUMENTS, Loads, check_mix
from model.trace.placement import Placement, PlacementError, as_numbered, balanced


@dataclasses.dataclass(frozen=True)
class Layout:
    """How many places there are.

    Attributes:
        num_ranks: number of ranks (devices).
        num_redundant: number of places beyond one for each expert.
        num_nodes: number of machines that hold the ranks.
        num_groups: number of routing groups; a group stays on one machine if groups divide evenly.
        one_copy: whether a rank holds at most one copy of an expert.
    """

    num_ranks: int
    num_redundant: int = 0
    num_nodes: int = 1
    num_groups: int = 1
    one_copy: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A placement, and the loads that it was fitted to and can be judged on.

    Attributes:
        loads: all loads.
        placement: the fitted placement.
        numbered: the placement in the order of the experts' numbers; None if the experts do not divide evenly.
        fit_U, held_U: masks of the units that were fitted, and of those held out; a single window is only fitted.
        mix: share of each label; None: the units as they are.
        seed: seed of the halves and of the batches.
    """

    loads: Loads
    placement: Placement
    numbered: Placement | None
    fit_U: np.ndarray
    held_U: np.ndarray
    mix: Mapping[str, float] | None
    seed: int

    def load(self, mask_U: np.ndarray) -> xr.DataArray:
        """Return the load of the experts over the units of a mask, by the mix, [moe_layer, expert]."""
        return weighted_load(self.loads, mask_U, self.mix)


def plan(loads: Loads, layout: Layout, mix: Mapping[str, float] | None = None, seed: int = 0) -> Plan:
    """Return a placement that is fitted to one half of the loads.

    Raises:
        AtlasError: the units lack labels of the mix.
        PlacementError: the places are fewer than the experts, or do not divide evenly.
    """
    if mix is not None:
        check_mix(loads, mix)
    fit, held = halves(loads, mix, seed)
    load = weighted_load(loads, fit, mix)
    return Plan(loads, fitted(load, layout), _numbered(load, layout.num_ranks), fit, held, mix, seed)


def halves(loads: Loads, mix: Mapping[str, float] | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the masks of the units to fit and of those held out, [U] bool each.

    A random half of the documents of each label is fitted, so that both halves have every label of the mix.
    """
    number = len(loads.counts_ULE)
    fit = np.zeros(number, bool)
    if loads.unit != DOCUMENTS:
        fit[: (number + 1) // 2] = True
        return fit, ~fit
    labels = np.full(number, "") if loads.labels_U is None else loads.labels_U
    generator = np.random.default_rng(seed)
    for label in np.unique(labels):
        units = generator.permutation(np.flatnonzero(labels == label))
        fit[units[: (len(units) + 1) // 2]] = True
    in_mix = np.isin(labels, list(mix)) if mix is not None else np.ones(number, bool)
    return fit & in_mix, ~fit & in_mix


def weighted_load(loads: Loads, mask_U: np.ndarray, mix: Mapping[str, float] | None) -> xr.DataArray:
    """Return the load of the experts over the units of a mask, [moe_layer, expert].

    Without a mix it is the sum of selections; with one, each label has its share of all selections of the mask.
    """
    counts = loads.counts_ULE
    dims, coords = ("moe_layer", "expert"), {"moe_layer": list(loads.layers)}
    if mix is None or loads.labels_U is None:
        return xr.DataArray(counts[mask_U].sum(0), coords, dims)
    total_L1 = counts[mask_U].sum((0, 2))[:, None]
    load_LE = np.zeros(counts.shape[1:])
    for label, share in mix.items():
        of_label_LE = counts[mask_U & (loads.labels_U == label)].sum(0)
        load_LE += share * total_L1 * of_label_LE / of_label_LE.sum(1, keepdims=True)
    return xr.DataArray(load_LE, coords, dims)


def fitted(load: xr.DataArray, layout: Layout) -> Placement:
    """Return the placement by EPLB for a load [moe_layer, expert], with copies apart if the layout asks for it."""
    if layout.num_ranks % layout.num_nodes:
        raise PlacementError(f"{layout.num_ranks} ranks do not divide evenly among {layout.num_nodes} machines")
    per_node = layout.num_ranks // layout.num_nodes
    placement = balanced(
        load,
        layout.num_ranks,
        layout.num_redundant,
        layout.num_groups,
        layout.num_nodes,
        most_copies=per_node if layout.one_copy else None,
    )
    on_nodes = layout.num_groups % layout.num_nodes == 0
    return copies_apart(placement, load, layout.num_nodes if on_nodes else 1) if layout.one_copy else placement


def _numbered(load: xr.DataArray, num_ranks: int) -> Placement | None:
    try:
        return as_numbered(load, num_ranks)
    except PlacementError:
        return None
