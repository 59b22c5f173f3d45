"""Summary of an importance map: the expert that a text needs most, and the number of experts without effect.

`model/run/importance.py` computes the map, [moe_layer, expert]; a cell is NaN until its expert has been knocked out.

    >>> dims = ("moe_layer", "expert")
    >>> effects = xr.Dataset(
    ...     {
    ...         "logprob_change": (dims, [[0.0, -0.5, np.nan]]),
    ...         "kl": (dims, [[0.0, 0.25, np.nan]]),
    ...         "chosen_by": (dims, [[0, 3, 1]]),
    ...         "rerouted": (dims, [[0, 4, 0]]),
    ...     },
    ...     coords={"moe_layer": [2]},
    ... )
    >>> summarise(effects)
    Summary(num_measured=2, num_idle=1, layer=2, expert=1, logprob_change=-0.5, chosen_by=3)
"""

from typing import NamedTuple

import numpy as np
import xarray as xr

from model.trace.metrics import tokens_per_expert
from model.trace.trace import Trace


class Summary(NamedTuple):
    """The most important expert, whose knock-out lowers the text's log-probability most, and counts of experts.

    Attributes:
        num_measured: number of experts that were knocked out.
        num_idle: number of experts whose knock-out changed no token's routing.
        layer: model layer number of the most important expert.
        expert: number of the most important expert.
        logprob_change: effect of knocking out this expert, in nats per token; negative if the text needs the expert.
        chosen_by: number of tokens that selected this expert in the original run.
    """

    num_measured: int
    num_idle: int
    layer: int
    expert: int
    logprob_change: float
    chosen_by: int


def summarise(effects: xr.Dataset) -> Summary | None:
    """Return the summary of a map; None until the first expert has been knocked out.

    Among experts with the same change, the one with the larger KL counts as most important, then the one in the lower
    layer.
    """
    measured = np.isfinite(effects["kl"].values)
    if not measured.any():
        return None
    layers, experts = np.nonzero(measured)
    change, kl = (effects[name].values[measured] for name in ("logprob_change", "kl"))
    first = np.lexsort((-kl, change))[0]
    layer, expert = int(layers[first]), int(experts[first])
    return Summary(
        num_measured=int(measured.sum()),
        num_idle=int((measured & (effects["rerouted"].values == 0)).sum()),
        layer=int(effects["moe_layer"].values[layer]),
        expert=expert,
        logprob_change=float(change[first]),
        chosen_by=int(effects["chosen_by"].values[layer, expert]),
    )


def consequential(original: Trace) -> list[tuple[int, int]]:
    """Return the experts, as (layer, expert), without which a run can differ: chosen ones, or all with a group limit.

    A group that loses an expert has another score, so that other groups may be kept. The effect of knocking out any
    other expert is exactly zero.
    """
    counts = tokens_per_expert(original.data["expert_id"], original.shape.num_experts or 0)
    limited = original.has("group_kept")
    return [
        (layer, expert)
        for layer in counts["moe_layer"].values.tolist()
        for expert, count in enumerate(counts.sel(moe_layer=layer).values.tolist())
        if count or limited
    ]
