"""How uneven the load of a fair router is by chance alone, simulated with a fixed seed.

A fair router keeps random groups for every token and selects random experts within them, independently for each token
(a parametric bootstrap). The tokens of a text are not independent. A load outside these bounds is therefore beyond
chance, but no proof of a fault: a text on one subject selects the same experts again and again.

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

_OWN_ERROR = 0.6  # share of the tail that a simulated bound may leave; 400 draws then keep to the whole tail
MOST_DRAWN = 100_000_000  # binomial draws per band, a few seconds; the released V3 needs 4.6 million


@dataclasses.dataclass(frozen=True, slots=True)
class LoadBand:
    """Bounds on the load that a fair router gives `num_tokens` tokens; loads are ratios to uniform.

    Attributes:
        low, high: the load of one given expert lies between them with probability `confidence`.
        group_low, group_high: the same for one given group.
        max_violation: upper bound, at that confidence, on a layer's MaxVio, which the busiest of all experts sets; it
            is exact (`most_tokens`).
        variation, gini, num_dead, num_outside: upper bounds, at that confidence, on a layer's coefficient of variation,
            Gini coefficient, experts without a token, and experts outside `low` to `high`.
        entropy: lower bound, at that confidence, on a layer's normalised entropy.
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
    """Simulate `draws` layers of a fair router, and return the bounds on their load.

    Raises:
        ValueError: there is no token, the kept groups hold fewer than `top_k` experts, or the router is so large that
            the simulation would take minutes.
    """
    if num_tokens < 1:
        raise ValueError("a load band needs at least one token")
    if num_experts % num_groups or not 0 < top_k <= kept_groups * (num_experts // num_groups) <= num_experts:
        raise ValueError(f"{top_k} of {num_experts} experts in {kept_groups} of {num_groups} groups cannot be drawn")
    if draws * num_experts * (kept_groups + 1) * (top_k + 1) > MOST_DRAWN:
        raise ValueError(f"{top_k} of {num_experts} experts take too long to simulate")
    rng = np.random.default_rng(seed)
    values = fair_counts(rng, draws, num_tokens, num_experts, top_k, num_groups, kept_groups)
    return _band(values, num_tokens, num_groups, confidence)


def _band(values: np.ndarray, num_tokens: int, num_groups: int, confidence: float) -> LoadBand:
    """Return the bounds of simulated counts [draw, expert]."""
    counts = xr.DataArray(values, dims=("moe_layer", "expert"))
    loads, groups = metrics.relative_load(counts).values, metrics.tokens_per_group(counts, num_groups)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.quantile(loads, tails).tolist()
    group_low, group_high = np.quantile(groups / groups.mean("group"), tails).tolist()
    num_dead, num_outside = (values == 0).sum(-1), ((loads < low) | (loads > high)).sum(-1)

    def most(of_layers: np.ndarray) -> float:
        return float(np.quantile(of_layers, 1 - _OWN_ERROR * (1 - confidence), method="higher"))

    num_experts, slots = values.shape[1], int(values[0].sum())
    busiest = most_tokens(num_tokens, num_experts, slots // num_tokens, confidence)
    return LoadBand(
        num_tokens=num_tokens,
        confidence=confidence,
        low=low,
        high=high,
        group_low=group_low,
        group_high=group_high,
        max_violation=busiest / (slots / num_experts) - 1,
        variation=most(metrics.coefficient_of_variation(counts).values),
        entropy=-most(-metrics.normalised_entropy(counts).values),
        gini=most(metrics.gini(counts).values),
        num_outside=math.ceil(most(num_outside)),
        num_dead=math.ceil(most(num_dead)),
        dead=float(num_dead.mean()),
        outside=float(num_outside.mean()),
    )


def band_of(rule: RouterRule, num_tokens: int) -> LoadBand | None:
    """Return the band of a router; None without tokens, for an unknown layout, or for one too large to simulate."""
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
    """Return the tokens of each expert in fair layers, [draw, expert] int64.

    The simulation walks along the experts, not the tokens: a token that still selects s of the r remaining experts
    takes the next one with probability s / r. Groups are kept in the same way. The cost does not grow with the tokens.
    """
    size = num_experts // num_groups
    groups, slots = np.arange(kept_groups + 1)[:, None], np.arange(top_k + 1)
    counts = np.zeros((draws, num_experts), np.int64)
    waiting = np.zeros((draws, kept_groups + 1, top_k + 1), np.int64)  # tokens, by the groups and experts still to draw
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
    """Return the probability of drawing the next of `left` items when `needed` of them are drawn in all."""
    return np.minimum(needed / np.maximum(left, 1), 1)


def most_tokens(num_tokens: int, num_experts: int, top_k: int, confidence: float = 0.95) -> int:
    """Return a bound on the tokens of the busiest expert of a fair layer, which it keeps with this confidence.

    Each expert's count is binomial, however groups are kept. Over all experts the probabilities of a larger count add
    up to at most 1 - `confidence` (Bonferroni's bound, which needs no independence).

    >>> most_tokens(1, 8, 2), most_tokens(28, 32, 4)
    (1, 9)
    """
    share = top_k / num_experts
    if share == 1:
        return num_tokens
    counts = np.arange(num_tokens)
    steps = np.log((num_tokens - counts) / (counts + 1)) + math.log(share / (1 - share))
    logs = num_tokens * math.log1p(-share) + np.concatenate([[0.0], np.cumsum(steps)])
    above = np.cumsum(np.exp(logs)[::-1])[::-1]  # [count]: probability of at least so many tokens
    return int(np.count_nonzero(above > (1 - confidence) / num_experts)) - 1


def tokens_to_call_dead(num_experts: int, top_k: int, confidence: float = 0.95) -> int:
    """Return the fewest tokens from which any expert of a layer without a token is beyond chance.

    From there on a fair layer is expected to leave at most 1 - `confidence` experts without one.

    >>> tokens_to_call_dead(256, 8)
    270
    """
    idle_share = 1 - top_k / num_experts  # of the tokens, for one expert
    return math.ceil(math.log((1 - confidence) / num_experts) / math.log(idle_share)) if idle_share > 0 else 1
