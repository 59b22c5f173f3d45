"""Placement of experts on devices: the load of each device in expert parallelism, without and with copies of experts.

Every device has the same number of places, and each place holds one expert. All places with the same expert share its
load evenly. `balanced` follows DeepSeek's load balancer (EPLB): the experts with the highest load get copies, and
places are assigned so that all devices have about the same load. If the routing groups divide evenly among the
nodes (machines), whole groups are assigned to nodes first: a token keeps few groups and therefore reaches few nodes.

Nothing here was measured on devices; the loads are computed from recorded routing.

    >>> counts = xr.DataArray([[6, 1, 1, 0]], dims=("moe_layer", "expert"), coords={"moe_layer": [3]})
    >>> as_numbered(counts, 2).load(counts).values.tolist()
    [[7.0, 1.0]]
    >>> balanced(counts, 2, num_redundant=2).load(counts).values.tolist()
    [[4.0, 4.0]]

Shape suffixes: W windows, L MoE layers, E experts, S places, G groups, R rows that are packed separately, N items of a
row (nodes in `held_LNS`), P packs, D devices.

Sources: DeepSeek-V3 report (arXiv 2412.19437), section 3.4; the algorithm of github.com/deepseek-ai/EPLB.
"""

import dataclasses

import numpy as np
import xarray as xr

from model.trace.metrics import balancedness, per_layer, relative_load


class PlacementError(ValueError):
    """The experts cannot be placed; the message says why."""


@dataclasses.dataclass(frozen=True, eq=False)
class Placement:
    """The expert in every place of every layer.

    Attributes:
        expert: expert in each place, [moe_layer, place]; the places of a device are consecutive, device 0 first.
        num_experts: number of routed experts of a layer; each has at least one place.
        num_devices: number of devices; each has the same number of places.
    """

    expert: xr.DataArray
    num_experts: int
    num_devices: int

    @property
    def copies(self) -> xr.DataArray:
        """The number of places that hold each expert, [moe_layer, expert]."""
        return per_layer(self.expert, _copies(self.expert.values, self.num_experts), "expert")

    def load(self, counts: xr.DataArray) -> xr.DataArray:
        """Return the load of each device, [moe_layer, device], in units of `counts` [moe_layer, expert]."""
        load_WLD = self.loads(counts.transpose("moe_layer", "expert").values[None])
        return per_layer(counts, load_WLD[0], "device")

    def loads(self, counts_WLE: np.ndarray) -> np.ndarray:
        """Return the load of each device in each window, [W, L, D], in units of `counts_WLE`."""
        share_WLE = counts_WLE / self.copies.values
        share_WLS = np.take_along_axis(share_WLE, self.expert.values[None], axis=2)
        return share_WLS.reshape(*share_WLS.shape[:2], self.num_devices, -1).sum(-1)


def device_figures(placement: Placement, counts: xr.DataArray) -> xr.Dataset:
    """Return how evenly a placement loads the devices.

    Args:
        placement: placement of the experts.
        counts: load of the experts, [moe_layer, expert].

    Returns:
        `ratio` [moe_layer, device]: load of each device divided by the layer's mean. `balancedness` [moe_layer]: see
        `metrics.balancedness`. `busiest` [moe_layer]: the largest ratio in the layer. Scalars: `mean_balancedness` over
        layers, and the `largest` ratio of all layers.
    """
    load = placement.load(counts)
    ratio, even = relative_load(load, "device"), balancedness(load, "device")
    busiest = ratio.max("device")
    return xr.Dataset(
        {
            "ratio": ratio,
            "balancedness": even,
            "busiest": busiest,
            "mean_balancedness": even.mean(),
            "largest": busiest.max(),
        }
    )


def as_numbered(counts: xr.DataArray, num_devices: int) -> Placement:
    """Return the placement with every expert once, in the order of their numbers.

    `counts` [moe_layer, expert] gives the layers and the number of experts.

    Raises:
        PlacementError: the experts do not divide evenly among the devices.
    """
    num_layers, num_experts = counts.sizes["moe_layer"], counts.sizes["expert"]
    _require_even(num_experts, num_devices, "device")
    expert_LS = np.broadcast_to(np.arange(num_experts), (num_layers, num_experts))
    return Placement(per_layer(counts, expert_LS, "place"), num_experts, num_devices)


def balanced(
    counts: xr.DataArray,
    num_devices: int,
    num_redundant: int = 0,
    num_groups: int = 1,
    num_nodes: int = 1,
    most_copies: int | None = None,
) -> Placement:
    """Return the placement by EPLB, with copies of experts.

    Args:
        counts: load of the experts, [moe_layer, expert].
        num_devices: number of all devices.
        num_redundant: number of places beyond one for each expert.
        num_groups: number of routing groups.
        num_nodes: number of machines that hold the devices; a group stays on one machine if groups divide evenly.
        most_copies: largest number of places that one expert may have; None: no limit, as in EPLB.

    Raises:
        PlacementError: the places do not divide evenly among the devices, or the devices among the nodes; or
            `most_copies` leaves places empty.
    """
    weight_LE = counts.transpose("moe_layer", "expert").values.astype(np.float64)
    num_layers, num_experts = weight_LE.shape
    num_places = num_experts + num_redundant
    if num_redundant < 0:
        raise PlacementError(
            f"{num_places} places are fewer than the {num_experts} experts: there cannot be {num_redundant} redundant "
            "experts"
        )
    _require_even(num_places, num_devices, "device")
    if num_groups % num_nodes:
        num_groups = num_nodes = 1
    _require_even(num_devices, num_nodes, "node")
    _require_even(num_experts, num_groups, "group")
    # Assign groups to nodes; the experts of a node are then consecutive.
    group_at_LG = _packed(weight_LE.reshape(num_layers, num_groups, -1).sum(-1), num_nodes)
    members = np.arange(num_experts // num_groups)
    expert_at_LE = (group_at_LG[..., None] * len(members) + members).reshape(num_layers, num_experts)
    # Copy experts within each node, and assign the copies to its devices.
    weight_RE = np.take_along_axis(weight_LE, expert_at_LE, axis=1).reshape(num_layers * num_nodes, -1)
    held_RS = _with_copies(weight_RE, num_places // num_nodes, most_copies)
    share_RE = weight_RE / _copies(held_RS, weight_RE.shape[1])
    at_RS = _packed(np.take_along_axis(share_RE, held_RS, axis=1), num_devices // num_nodes)
    held_LNS = np.take_along_axis(held_RS, at_RS, axis=1).reshape(num_layers, num_nodes, -1)
    first_of_node = np.arange(num_nodes)[:, None] * weight_RE.shape[1]
    expert_LS = np.take_along_axis(expert_at_LE, (held_LNS + first_of_node).reshape(num_layers, -1), axis=1)
    return Placement(per_layer(counts, expert_LS, "place"), num_experts, num_devices)


def _require_even(number: int, among: int, what: str) -> None:
    if among < 1 or number % among:
        raise PlacementError(f"{number} do not divide evenly among {among} {what}s")


def _copies(held_RS: np.ndarray, num_experts: int) -> np.ndarray:
    """Return the number of places that hold each expert, [R, E]."""
    rows = np.arange(len(held_RS))[:, None] * num_experts
    return np.bincount((held_RS + rows).ravel(), minlength=len(held_RS) * num_experts).reshape(-1, num_experts)


def _with_copies(weight_RE: np.ndarray, num_places: int, most_copies: int | None = None) -> np.ndarray:
    """Return the expert of each place, [R, S].

    The first places hold every expert once. Each further place holds a copy of the expert whose load, divided by its
    number of copies so far, is the highest, of those with fewer than `most_copies`.
    """
    num_rows, num_experts = weight_RE.shape
    if most_copies is not None and num_places > most_copies * num_experts:
        raise PlacementError(f"{num_places} places are more than {most_copies} for each of {num_experts} experts")
    copies_RE, rows = np.ones(weight_RE.shape), np.arange(num_rows)
    held_RS = np.empty((num_rows, num_places), np.int64)
    held_RS[:, :num_experts] = np.arange(num_experts)
    for place in range(num_experts, num_places):
        share_RE = weight_RE / copies_RE
        if most_copies is not None:
            share_RE = np.where(copies_RE < most_copies, share_RE, -1)
        held_RS[:, place] = share_RE.argmax(1)
        copies_RE[rows, held_RS[:, place]] += 1
    return held_RS


def _packed(weight_RN: np.ndarray, num_packs: int) -> np.ndarray:
    """Pack items into packs of equal size, the heaviest item first, each into the lightest pack that is not full.

    Returns:
        The item at each place, [R, N]; the places of a pack are consecutive.
    """
    num_rows, num_items = weight_RN.shape
    size, rows = num_items // num_packs, np.arange(num_rows)
    load_RP, filled_RP = np.zeros((num_rows, num_packs)), np.zeros((num_rows, num_packs), np.int64)
    item_at_RN = np.empty((num_rows, num_items), np.int64)
    for item_R in np.argsort(-weight_RN, axis=1, kind="stable").T:
        pack_R = np.where(filled_RP < size, load_RP, np.inf).argmin(1)
        item_at_RN[rows, pack_R * size + filled_RP[rows, pack_R]] = item_R
        load_RP[rows, pack_R] += weight_RN[rows, item_R]
        filled_RP[rows, pack_R] += 1
    return item_at_RN
