"""The router rule of a trace: the rule that its run found, or recorded values and those of the configuration.

Recorded values take precedence. A value of the configuration that contradicts the recording is ignored. A value that
neither gives has a placeholder: 1 expert, top-k 0, scale None.
"""

import dataclasses

import numpy as np
import xarray as xr

from model.trace import near_ties
from model.trace.derived import derived
from model.trace.router_rule import SCORINGS, SIGMOID, SOFTMAX, RouterRule, is_v2, scale_of, usual_scoring
from model.trace.routing import untouched_layers
from model.trace.trace import Trace


def rule_known(trace: Trace) -> bool:
    """Return whether the rule of `rule_of` selects and weighs; if not, only its numbers of experts mean something."""
    return trace.router is None or trace.router.rule is not None


def rule_of(trace: Trace, part: xr.Dataset | None = None) -> RouterRule:
    """Return the router rule of a trace, with placeholders for unknown values.

    Args:
        trace: the trace. The top-k is the recorded one, even if an intervention set it; 0 without recorded experts. If
            the run found no rule, the result has no groups and no bias, and gives no weights.
        part: tokens and layers whose scores decide the scoring function and `scores_per_group`, if not stated. None:
            the first token decides the scoring function, and the model type decides `scores_per_group`.
    """
    if part is None:
        return derived(trace, "rule", lambda: _rule(trace, None))
    return _rule(trace, part)


def _rule(trace: Trace, part: xr.Dataset | None) -> RouterRule:
    sizes, config = trace.data.sizes, trace.config
    num_experts = trace.shape.num_experts or 1
    if trace.router is not None:
        unknown = RouterRule(
            num_experts=num_experts, top_k=0, has_selection_bias=False, normalise_weights=None, routed_scale=None
        )
        return dataclasses.replace(trace.router.rule or unknown, top_k=sizes.get("rank", 0))
    num_groups = _count(sizes.get("group") or config.get("n_group"))
    num_groups = num_groups if num_experts % num_groups == 0 else 1
    normalise = config.get("norm_topk_prob")
    return RouterRule(
        num_experts=num_experts,
        top_k=sizes.get("rank", 0),
        num_groups=num_groups,
        num_kept_groups=min(_num_kept_groups(trace), num_groups),
        scoring=_scoring(trace, trace.data if part is None else part),
        has_selection_bias=trace.has("expert_bias") or not is_v2(config),
        scores_per_group=_scores_per_group(trace, part),
        normalise_weights=normalise if isinstance(normalise, bool) else None,
        routed_scale=scale_of(config.get("routed_scaling_factor")),
    )


def _num_kept_groups(trace: Trace) -> int:
    """Return the number of groups that a token keeps in a layer without interventions."""
    stated = _count(trace.config.get("topk_group"))
    if not trace.has("group_kept"):
        return stated
    kept = trace.data["group_kept"]
    as_trained = np.flatnonzero(untouched_layers(trace.interventions, kept["moe_layer"]).values)[:1]
    return int(np.sum(kept.values[:, as_trained], axis=-1).max(initial=0)) or stated


def _scoring(trace: Trace, part: xr.Dataset) -> str:
    """Return the stated scoring function.

    Without one, return softmax if the first token's affinities sum to 1, else sigmoid; without affinities, return the
    default of the configuration.
    """
    stated = trace.config.get("scoring_func")
    if stated in SCORINGS:
        return stated
    if "router_score" not in part:
        return usual_scoring(trace.config)
    affinity = part["router_score"].values[:1]
    return SOFTMAX if np.allclose(affinity.sum(-1), 1, atol=1e-3) else SIGMOID


def _scores_per_group(trace: Trace, part: xr.Dataset | None) -> int:
    if part is not None and {"router_score", "expert_bias", "group_score"} <= set(part):
        biased = part["router_score"] + part["expert_bias"]
        return near_ties.scores_in_a_group_score(biased.values, part["group_score"].values)
    return 1 if is_v2(trace.config) else 2


def _count(stated: object) -> int:
    """Return a stated number of groups; 1 if it is not a positive whole number."""
    return stated if isinstance(stated, int) and not isinstance(stated, bool) and stated > 0 else 1
