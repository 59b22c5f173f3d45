"""Margins of routing decisions, and the near ties that the rounding of a dtype could turn. Arrays in and out.

A margin is the lowest selected score minus the highest one that was left out, in units of biased score. A margin below
zero means that the recorded scores do not give the recorded selection: an intervention changed it
(`routing.untouched_layers`), or the trace follows another rule.
"""

from collections.abc import Iterable

import numpy as np
import xarray as xr

from model.trace.router_rule import RouterRule, biased_score, margin
from model.trace.routing import one_hot

# The docstring of `tolerance` says how these were measured.
_TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-3, "float16": 7e-4}
DTYPES = tuple(_TOLERANCES)
_PLACE_NEEDS = ("router_score", "expert_bias", "expert_id", "group_kept")
_GROUP_NEEDS = ("group_score", "group_kept")


class MissingScoresError(ValueError):
    """The trace lacks variables that a margin needs; the message names them."""


def tolerance(dtype: str) -> float:
    """Return the largest margin that rounding in this dtype may turn, in units of biased score.

    float32: two implementations of the same model agree on every selection whose margin is above 1e-4, although their
    scores differ by up to 8e-6 (measured with random checkpoints that reach logits of 6; `tests/parity.py`).

    bfloat16 and float16: 99 % of router scores differ from those in fp32 by less than the tolerance. Measured on a CPU
    with mini-v3 (five MoE layers, router in fp32 in every dtype) on 9,975 tokens, 38 kB of English, German, French,
    Spanish, Russian, Japanese, a README and Python code: the 99th percentile is 4.9e-3 (bfloat16) and 6.8e-4 (float16)
    before the context extension, 5.0e-3 and 5.8e-4 after it; the median is 2e-4 and 3e-5. 1.4 % and 0.2 % of the sets
    of experts changed. Of each token's first change, 96 % and about 87 % were near ties by these tolerances; later
    changes also follow from earlier ones. A deeper or wider model may drift further.

    Raises:
        ValueError: no tolerance was measured for the dtype.
    """
    if dtype not in _TOLERANCES:
        raise ValueError(f"no tolerance was measured for {dtype!r:.40}; known are {', '.join(_TOLERANCES)}")
    return _TOLERANCES[dtype]


def place_margin(data: xr.Dataset) -> xr.DataArray:
    """Return the margin of the last selected expert over the best other expert of the kept groups, [token, moe_layer].

    Infinite if the kept groups hold no other expert, NaN if a selected expert is unknown.

    Args:
        data: `router_score` [token, moe_layer, expert], `expert_bias` [moe_layer, expert], `expert_id`
            [token, moe_layer, rank] and `group_kept` [token, moe_layer, group], as in a trace.

    Raises:
        MissingScoresError: one of them was not recorded.
    """
    require(data, _PLACE_NEEDS)
    biased = biased_score(data["router_score"], data["expert_bias"])
    selected = one_hot(data["expert_id"], biased.sizes["expert"])
    reachable = np.repeat(data["group_kept"].values, biased.sizes["expert"] // data.sizes["group"], axis=-1)
    values = margin(biased.values, selected, reachable)
    return biased.isel(expert=0, drop=True).copy(data=values).where((data["expert_id"] >= 0).all("rank"))


def group_margin(data: xr.Dataset) -> xr.DataArray:
    """Return the margin of the last kept group over the best dropped one, [token, moe_layer]; infinite if all are kept.

    Args:
        data: `group_score` and `group_kept` [token, moe_layer, group], as in a trace.

    Raises:
        MissingScoresError: one of them was not recorded.
    """
    require(data, _GROUP_NEEDS)
    score, kept = (data[name].transpose("token", "moe_layer", "group") for name in _GROUP_NEEDS)
    return score.isel(group=0, drop=True).copy(data=margin(score.values, kept.values))


def near_ties(data: xr.Dataset, dtype: str) -> xr.DataArray:
    """Return a mask of decisions that rounding could turn: either margin is within tolerance, [token, moe_layer] bool.

    An unknown margin is not near, nor is a margin far below zero.

    Args:
        data: as for `place_margin` and `group_margin`.
        dtype: of the run (`origin`'s), or of a run to compare it with.

    Raises:
        MissingScoresError: scores, bias, kept groups or selected experts were not recorded.
        ValueError: no tolerance was measured for the dtype.
    """
    return near_places(data, dtype) | near_groups(data, dtype)


def near_places(data: xr.Dataset, dtype: str) -> xr.DataArray:
    """Return a mask of decisions whose last selected expert rounding could replace, [token, moe_layer] bool.

    Raises:
        MissingScoresError, ValueError: as for `near_ties`.
    """
    return abs(place_margin(data)) <= tolerance(dtype)


def near_groups(data: xr.Dataset, dtype: str) -> xr.DataArray:
    """Return a mask of decisions whose last kept group rounding could replace, [token, moe_layer] bool.

    A group score that is the sum of two scores has twice the tolerance.

    Raises:
        MissingScoresError, ValueError: as for `near_ties`.
    """
    return abs(group_margin(data)) <= tolerance(dtype) * scores_in_a_group_score(data)


def scores_in_a_group_score(data: xr.Dataset) -> int:
    """Return how many biased scores a recorded group score adds up: 2 as in V3, or 1 as in V2.

    The answer is the rule with the smaller median error over tokens, layers and groups.

    Args:
        data: `router_score`, `expert_bias` and `group_score`, as in a trace.

    Raises:
        MissingScoresError: one of them was not recorded.
    """
    require(data, ("router_score", "expert_bias", "group_score"))
    biased = biased_score(data["router_score"], data["expert_bias"]).values
    num_experts, num_groups = biased.shape[-1], data.sizes["group"]
    if num_experts == num_groups:
        return 1
    best, both = (
        RouterRule(num_experts=num_experts, top_k=1, num_groups=num_groups, scores_per_group=count).group_scores(biased)
        for count in (1, 2)
    )
    from_best, from_both = (np.median(np.abs(data["group_score"].values - each)) for each in (best, both))
    return 1 if from_best < from_both else 2


def require(data: xr.Dataset, names: Iterable[str]) -> None:
    """Check that the trace holds all the variables.

    Raises:
        MissingScoresError: some are missing; the message names them.
    """
    missing = [name for name in names if name not in data]
    if missing:
        raise MissingScoresError(f"the trace does not hold {', '.join(missing)}; without it no margin is known")
