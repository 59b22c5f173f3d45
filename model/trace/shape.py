"""How a trace's router is laid out: experts, their groups, and how many of these a token keeps.

What was recorded goes before what the configuration states, and what cannot be is not believed. `chance.band_of` says
what fair routing in this layout gives.
"""

import numpy as np

from model.trace.routing import untouched_layers
from model.trace.trace import Trace


def states_experts(trace: Trace) -> bool:
    """Whether the trace says how many experts its model has; otherwise idle ones cannot be counted."""
    return "expert" in trace.data.sizes or "n_routed_experts" in trace.config


def num_experts(trace: Trace) -> int:
    """Routed experts of a layer; 1 where the trace does not say."""
    return trace.data.sizes.get("expert") or trace.config.get("n_routed_experts", 1)


def num_groups(trace: Trace) -> int:
    """Routing groups of a layer; 1 where the trace does not say, or states what does not divide the experts."""
    stated = _whole(trace.data.sizes.get("group") or trace.config.get("n_group"))
    return stated if num_experts(trace) % stated == 0 else 1


def kept_groups(trace: Trace) -> int:
    """Groups that a token keeps in a layer that chose as the model was trained to."""
    stated = _whole(trace.config.get("topk_group"))
    if trace.has("group_kept"):
        kept = trace.data["group_kept"]
        as_trained = kept.values[:, untouched_layers(trace.interventions, kept["moe_layer"]).values]
        stated = int(np.sum(as_trained[:, :1], axis=-1).max(initial=0)) or stated
    return min(stated, num_groups(trace))


def group_of(trace: Trace, expert: int) -> int:
    """The routing group that an expert is in."""
    return expert // (num_experts(trace) // num_groups(trace))


def _whole(stated: object) -> int:
    """A stated number of groups; 1 where it is none."""
    return stated if isinstance(stated, int) and not isinstance(stated, bool) and stated > 0 else 1
