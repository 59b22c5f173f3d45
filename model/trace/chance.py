"""How uneven the load of a fair router is by chance alone.

The bounds on the load of experts are exact; all other bounds are simulated with a fixed seed.

A fair router keeps random groups for every token and selects random experts within them, independently of all other
tokens. The tokens of a real text are not independent: a text on one subject selects the same experts again and again. A
load outside these bounds is therefore beyond chance, but no proof of a fault.

The bounds of a layer hold for all its experts, or for all its groups, at once. A layer of a fair router is therefore
called unfair in at most 5 % of cases, however many experts it has.

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

# Simulated bounds use this share of the allowed tail: the error of 400 draws then stays within the whole tail.
_OWN_ERROR = 0.5
MOST_DRAWN = 100_000_000  # binomial draws per band, a few seconds; a band for the released V3 needs 4.6 million


@dataclasses.dataclass(frozen=True, slots=True)
class LoadBand:
    """Bounds on the load ratios of a fair router, for `num_tokens` tokens.

    Attributes:
        low, high: exact bounds on the load ratios of a layer; all its experts are between them with probability
            `confidence` or more.
        group_low, group_high: bounds on the load ratios of all groups of a layer, with that probability.
        max_violation: `high` minus 1, an upper bound on a layer's MaxVio, which the busiest expert sets.
        variation, gini, num_dead: upper bounds at this confidence on a layer's coefficient of variation, Gini
            coefficient, and number of experts without a token.
        entropy: lower bound at this confidence on a layer's normalised entropy.
        dead: expected number of a layer's experts without a token.
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
    num_dead: int
    dead: float


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
    """Return the bounds on the load of a fair router, from `draws` simulated layers.

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
    """Return the bounds; those without a formula are quantiles of the simulated counts [draw, expert]."""
    counts = xr.DataArray(values, dims=("moe_layer", "expert"))
    num_experts, slots = values.shape[1], int(values[0].sum())
    fair, share = slots / num_experts, slots / num_tokens / num_experts
    least, most = count_bounds(num_tokens, share, 1 - (1 - confidence) / num_experts)
    slots_of_groups = metrics.tokens_per_group(counts, num_groups)
    groups = (slots_of_groups / slots_of_groups.mean("group")).values

    def bound(of_layers: np.ndarray, tail: float = 1 - confidence) -> float:
        return float(np.quantile(of_layers, 1 - _OWN_ERROR * tail, method="higher"))

    return LoadBand(
        num_tokens=num_tokens,
        confidence=confidence,
        low=least / fair,
        high=most / fair,
        group_low=-bound(-groups.min(-1), (1 - confidence) / 2),
        group_high=bound(groups.max(-1), (1 - confidence) / 2),
        max_violation=most / fair - 1,
        variation=bound(metrics.coefficient_of_variation(counts).values),
        entropy=-bound(-metrics.normalised_entropy(counts).values),
        gini=bound(metrics.gini(counts).values),
        num_dead=math.ceil(bound((values == 0).sum(-1))),
        dead=num_experts * (1 - share) ** num_tokens,
    )


def band_of(rule: RouterRule, num_tokens: int) -> LoadBand | None:
    """Return the bounds for a router; None without tokens, or if its layout is unknown or too large to simulate."""
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
    """Return the number of tokens of each expert in simulated fair layers, [draw, expert] int64.

    The simulation goes through the experts, not the tokens. A token that must still select s of the r remaining experts
    selects the next one with probability s / r, so the number of these tokens that select it is binomial. Groups are
    kept in the same way. The cost does not grow with the number of tokens.
    """
    size = num_experts // num_groups
    groups, slots = np.arange(kept_groups + 1)[:, None], np.arange(top_k + 1)
    counts = np.zeros((draws, num_experts), np.int64)
    # Number of tokens by how many groups and how many experts they must still draw.
    waiting = np.zeros((draws, kept_groups + 1, top_k + 1), np.int64)
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
    """Return the probability that the next item is drawn, if `needed` of the `left` remaining items will be drawn."""
    return np.minimum(needed / np.maximum(left, 1), 1)


def count_bounds(num_tokens: int, share: float, confidence: float = 0.95) -> tuple[int, int]:
    """Return the narrowest bounds that contain a binomial count at this confidence, with equal tails on both sides.

    The count of one expert is binomial, whatever the number of kept groups; `share` is top-k / number of experts. At
    the confidence 1 - p / n the bounds contain the counts of all n experts with probability 1 - p or more (Bonferroni's
    bound, which needs no independence).

    >>> count_bounds(28, 4 / 32), count_bounds(28, 4 / 32, 1 - 0.05 / 32)
    ((1, 7), (0, 10))
    """
    if share >= 1:
        return num_tokens, num_tokens
    counts = np.arange(num_tokens)
    steps = np.log((num_tokens - counts) / (counts + 1)) + math.log(share / (1 - share))
    probability = np.exp(num_tokens * math.log1p(-share) + np.concatenate([[0.0], np.cumsum(steps)]))
    tail = (1 - confidence) / 2
    up_to = np.cumsum(probability)  # [count]: probability of at most `count` tokens
    at_least = np.cumsum(probability[::-1])[::-1]
    return int(np.count_nonzero(up_to <= tail)), int(np.count_nonzero(at_least > tail)) - 1


def tokens_to_call_dead(num_experts: int, top_k: int, confidence: float = 0.95) -> int:
    """Return the smallest number of tokens for which chance no longer explains an expert without a token.

    With this number or more, a layer of a fair router is expected to have at most 1 - `confidence` experts without a
    token.

    >>> tokens_to_call_dead(256, 8)
    270
    """
    idle_share = 1 - top_k / num_experts  # share of the tokens that do not select a given expert
    return math.ceil(math.log((1 - confidence) / num_experts) / math.log(idle_share)) if idle_share > 0 else 1
