"""How uneven the load of a fair router is by chance alone, for so many tokens. Simulated, with a fixed seed.

Fair is a router that for every token keeps groups at random and takes experts of those at random, each token by itself
(a parametric bootstrap). The tokens of a text are not independent of each other, so what lies outside these bounds is
beyond chance, but not by that alone a fault of the router: a text of one kind wants experts of one kind.

    >>> fair_counts(np.random.default_rng(0), draws=2, num_tokens=5, num_experts=4, top_k=2).sum(axis=1).tolist()
    [10, 10]
"""

import dataclasses
import functools
import math

import numpy as np
import xarray as xr

from model.trace import metrics
from model.trace.router_rule import RouterRule

MOST_DRAWN = 100_000_000  # binomial numbers of a band, a few seconds; the released V3's takes 4.6 million


@dataclasses.dataclass(frozen=True, slots=True)
class LoadBand:
    """What fair routing alone gives for so many tokens; loads are ratios to uniform.

    Attributes:
        low, high: bounds between which the load of one given expert falls with the stated confidence.
        group_low, group_high: the same of one given group.
        max_violation, variation, gini, num_dead, num_outside: what a layer's MaxVio, coefficient of variation, Gini
            coefficient, experts without a token and experts outside `low` to `high` stay within with that confidence.
        entropy: what a layer's normalised entropy stays above with that confidence.
        dead, outside: expected number of experts without a token, and outside `low` to `high`.
    """

    num_tokens: int
    confidence: float
    low: float
    high: float
    group_low: float
    group_high: float
    max_violation: float
    variation: float
    entropy: float
    gini: float
    num_outside: int
    num_dead: int
    dead: float
    outside: float


@functools.lru_cache(maxsize=256)
def load_band(
    num_tokens: int,
    num_experts: int,
    top_k: int,
    num_groups: int = 1,
    kept_groups: int = 1,
    confidence: float = 0.95,
    draws: int = 400,
    seed: int = 0,
) -> LoadBand:
    """Simulate `draws` layers of a fair router.

    Raises:
        ValueError: no tokens to simulate, fewer experts in the kept groups than a token takes, or a router so large
            that it would take minutes.
    """
    if num_tokens < 1:
        raise ValueError("a load band needs at least one token")
    if num_experts % num_groups or not 0 < top_k <= kept_groups * (num_experts // num_groups) <= num_experts:
        raise ValueError(f"{top_k} of {num_experts} experts in {kept_groups} of {num_groups} groups cannot be drawn")
    if draws * num_experts * (kept_groups + 1) * (top_k + 1) > MOST_DRAWN:
        raise ValueError(f"{top_k} of {num_experts} experts take too long to simulate")
    rng = np.random.default_rng(seed)
    values = fair_counts(rng, draws, num_tokens, num_experts, top_k, num_groups, kept_groups)
    counts = xr.DataArray(values, dims=("moe_layer", "expert"))
    loads, groups = metrics.relative_load(counts).values, metrics.tokens_per_group(counts, num_groups)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.quantile(loads, tails).tolist()
    group_low, group_high = np.quantile(groups / groups.mean("group"), tails).tolist()
    num_dead, num_outside = (values == 0).sum(-1), ((loads < low) | (loads > high)).sum(-1)

    def most(of_layers: np.ndarray) -> float:
        return float(np.quantile(of_layers, confidence))

    return LoadBand(
        num_tokens=num_tokens,
        confidence=confidence,
        low=low,
        high=high,
        group_low=group_low,
        group_high=group_high,
        max_violation=most(metrics.max_violation(counts).values),
        variation=most(metrics.coefficient_of_variation(counts).values),
        entropy=-most(-metrics.normalised_entropy(counts).values),
        gini=most(metrics.gini(counts).values),
        num_outside=math.ceil(most(num_outside)),
        num_dead=math.ceil(most(num_dead)),
        dead=float(num_dead.mean()),
        outside=float(num_outside.mean()),
    )


def band_of(rule: RouterRule, num_tokens: int) -> LoadBand | None:
    """The band of a router for so many tokens; None for no token, an unknown layout, or one too large to simulate."""
    try:
        return load_band(num_tokens, rule.num_experts, rule.top_k, rule.num_groups, rule.num_kept_groups)
    except ValueError:
        return None


def fair_counts(
    rng: np.random.Generator,
    draws: int,
    num_tokens: int,
    num_experts: int,
    top_k: int,
    num_groups: int = 1,
    kept_groups: int = 1,
) -> np.ndarray:
    """Tokens per expert of layers with fair routing, [draw, expert] int64.

    Not token by token: from expert to expert, of the tokens with s experts still to take and r still within reach, each
    takes the next one with probability s / r. Groups are kept the same way. The cost does not grow with the tokens.
    """
    size = num_experts // num_groups
    groups, slots = np.arange(kept_groups + 1)[:, None], np.arange(top_k + 1)
    counts = np.zeros((draws, num_experts), np.int64)
    waiting = np.zeros((draws, kept_groups + 1, top_k + 1), np.int64)  # tokens, by the groups and experts they yet need
    waiting[:, kept_groups, top_k] = num_tokens
    for group in range(num_groups):
        keeping = rng.binomial(waiting, _share(groups, num_groups - group))
        waiting -= keeping
        for place in range(size):
            taking = rng.binomial(keeping, _share(slots, groups * size - place))
            counts[:, group * size + place] = taking.sum((1, 2))
            keeping -= taking
            keeping[..., :-1] += taking[..., 1:]
        waiting[:, :-1] += keeping[:, 1:]
    return counts


def _share(needed: np.ndarray, left: np.ndarray | int) -> np.ndarray:
    """Probability to take the next of `left` when `needed` of them are to be taken; no token needs more than all."""
    return np.minimum(needed / np.maximum(left, 1), 1)


def tokens_to_call_dead(num_experts: int, top_k: int, confidence: float = 0.95) -> int:
    """From how many tokens on an expert without one is beyond chance: fair routing spares it too rarely.

    >>> tokens_to_call_dead(256, 8)
    117
    """
    spared = 1 - top_k / num_experts
    return math.ceil(math.log((1 - confidence) / 2) / math.log(spared)) if spared > 0 else 1
