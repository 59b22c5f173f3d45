"""Move copies of an expert to different devices, for engines that address an expert by its device.

Shape suffixes: L MoE layers, S places, D devices, P places of a device.
"""

import dataclasses

import numpy as np
import xarray as xr

from model.trace.metrics import per_layer
from model.trace.placement import Placement, PlacementError


def copies_apart(placement: Placement, counts: xr.DataArray, num_nodes: int = 1) -> Placement:
    """Return the placement with at most one copy of an expert on each device.

    A second copy changes places with an expert of another device of the same node: with the one that leaves the
    larger load of both devices smallest.

    Args:
        placement: a placement; no expert has more copies than a node has devices.
        counts: load of the experts, [moe_layer, expert].
        num_nodes: number of machines that hold the devices.

    Raises:
        PlacementError: no exchange takes the copies apart.
    """
    share_LE = counts.transpose("moe_layer", "expert").values / placement.copies.values
    expert_LDP = placement.expert.values.reshape(len(share_LE), placement.num_devices, -1).copy()
    for row, (expert_DP, share_E) in enumerate(zip(expert_LDP, share_LE, strict=True)):
        while (second := _second_copy(expert_DP)) is not None:
            exchange = _exchange(expert_DP, share_E, second, placement.num_devices // num_nodes)
            if exchange is None:
                layer = int(counts["moe_layer"].values[row])
                raise PlacementError(
                    f"two copies of expert {expert_DP[second]} of L{layer} stay on device {second[0]}, and this engine "
                    "holds one on a device; ask for fewer redundant experts"
                )
            expert_DP[second], expert_DP[exchange] = expert_DP[exchange], expert_DP[second]
    expert_LS = expert_LDP.reshape(len(expert_LDP), -1)
    return dataclasses.replace(placement, expert=per_layer(placement.expert, expert_LS, "place"))


def _second_copy(expert_DP: np.ndarray) -> tuple[int, int] | None:
    """Return the device and place of a second copy on one device; None if there is none."""
    for device, experts in enumerate(expert_DP):
        _, first = np.unique(experts, return_index=True)
        if len(first) < len(experts):
            return device, int(np.setdiff1d(np.arange(len(experts)), first)[0])
    return None


def _exchange(
    expert_DP: np.ndarray, share_E: np.ndarray, second: tuple[int, int], per_node: int
) -> tuple[int, int] | None:
    """Return the device and place that the second copy changes with; None if no exchange reduces the copies."""
    device, expert = second[0], expert_DP[second]
    load_D = share_E[expert_DP].sum(1)
    node = device // per_node
    best: tuple[float, tuple[int, int]] | None = None
    for other in range(node * per_node, (node + 1) * per_node):
        if other == device or expert in expert_DP[other]:
            continue
        for place, candidate in enumerate(expert_DP[other].tolist()):
            if candidate in expert_DP[device]:
                continue
            gain = share_E[candidate] - share_E[expert]
            larger = float(max(load_D[device] + gain, load_D[other] - gain))
            if best is None or larger < best[0]:
                best = larger, (other, place)
    return None if best is None else best[1]
