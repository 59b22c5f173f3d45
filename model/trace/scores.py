"""The scores by which a router selects experts, from the recorded variables of a trace.

The router's rule decides which variables this needs: a router without a bias needs no `expert_bias`, one without groups
no `group_kept`.
"""

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

import numpy as np
import xarray as xr

from model.trace.router_rule import RouterRule
from model.trace.routing import untouched_layers
from model.trace.trace import Trace

_Array = TypeVar("_Array", covariant=True)


class MissingScoresError(ValueError):
    """The trace lacks variables that a margin needs; the message names them."""


class Recorded(Protocol[_Array]):
    """Recorded variables by name: a dataset, or a mapping of arrays."""

    def __getitem__(self, name: str, /) -> _Array: ...


def needed(rule: RouterRule) -> tuple[str, ...]:
    """Return the variables that biased scores of experts need."""
    bias, logits = rule.has_selection_bias, rule.bias_on_logits
    return ("router_score", *(["expert_bias"] if bias else []), *(["router_logit"] if logits else []))


def needed_for_selection(rule: RouterRule) -> tuple[str, ...]:
    """Return the variables that say how biased scores gave the recorded selection."""
    return (*needed(rule), "expert_id", *(["group_score", "group_kept"] if rule.num_groups > 1 else []))


def give_margins(trace: Trace, at: xr.Dataset, rule: RouterRule) -> bool:
    """Return whether the variables `at` of a trace hold what margins need.

    Without recorded groups, a trace whose run did not state the rule may be of a router with groups.
    """
    groups = () if trace.router else ("group_score", "group_kept")
    return {*needed_for_selection(rule), *groups} <= set(at)


def require(data: xr.Dataset, names: Iterable[str]) -> None:
    """Raise an error if the trace lacks one of the variables.

    Raises:
        MissingScoresError: variables are missing; the message names them.
    """
    missing = [name for name in names if name not in data]
    if missing:
        raise MissingScoresError(f"the trace does not hold {', '.join(missing)}; without it no margin is known")


def biased_scores(recorded: Recorded[_Array], rule: RouterRule) -> _Array:
    """Return the biased scores, with the axes of `router_score`.

    Args:
        recorded: the variables of `needed`, of all layers or of one.
        rule: rule of the router.
    """
    affinity: Any = recorded["router_score"]
    bias = recorded["expert_bias"] if rule.has_selection_bias else np.float32(0)
    return rule.biased(affinity, bias, recorded["router_logit"] if rule.bias_on_logits else None)


def reachable(group_kept: np.ndarray | None, rule: RouterRule) -> np.ndarray | bool:
    """Return a mask of the experts in kept groups, [..., expert]; True if the router has no groups.

    `group_kept` is [..., group]; it may be None if the router has no groups.
    """
    if rule.num_groups == 1 or group_kept is None:
        return True
    return np.repeat(group_kept, rule.group_size, axis=-1)


def decided_layers(trace: Trace) -> xr.DataArray:
    """Return a mask of the layers in which the router's scores gave the recorded selection, [moe_layer].

    False in layers that an intervention changed, in blocks whose experts follow from the token id alone, and everywhere
    if the rule is not known.
    """
    mask = untouched_layers(trace.interventions, trace.data["moe_layer"])
    if trace.router is None:
        return mask
    by_table = np.isin(mask["moe_layer"].values, trace.router.table_layers)
    return mask & ~by_table & (trace.router.rule is not None)
