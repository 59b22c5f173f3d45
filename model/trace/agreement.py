"""Agreement of two sets of experts, and the agreement that chance gives.

The Jaccard index of two sets is the size of their intersection over the size of their union. The agreement by chance is
that of two independent fair routers, each of which keeps random groups and selects random experts within them. The
expected agreement is computed exactly, not simulated.

    >>> jaccard(np.array([3]), 4, 4).round(2).tolist()
    [0.6]
    >>> fair_agreement(4, 2, 2)
    FairAgreement(jaccard=0.38888888888888884, equal=0.16666666666666666)
"""

import functools
import math
from typing import NamedTuple

import numpy as np


class FairAgreement(NamedTuple):
    """Agreement of two independent fair routers: mean Jaccard index, and the share of equal sets."""

    jaccard: float
    equal: float


def jaccard(shared: np.ndarray, size_a: int, size_b: int) -> np.ndarray:
    """Return the Jaccard index of two sets of the given sizes with `shared` common elements."""
    return shared / (size_a + size_b - shared)


@functools.lru_cache(maxsize=64)
def fair_agreement(
    num_experts: int, top_k: int, other_top_k: int, num_groups: int = 1, kept_groups: int = 1
) -> FairAgreement:
    """Return the exact agreement of two independent fair routers over the same experts.

    Raises:
        ValueError: the kept groups hold fewer experts than a token selects.
    """
    size = num_experts // max(1, num_groups)
    reach = kept_groups * size
    if num_experts % max(1, num_groups) or not 0 < max(top_k, other_top_k) <= reach <= num_experts:
        raise ValueError(f"{top_k} of {num_experts} experts in {kept_groups} of {num_groups} groups cannot be drawn")
    shared = np.zeros(top_k + 1)  # by number of common experts: its probability
    for groups in range(kept_groups + 1):  # number of groups that both keep
        kept = _hypergeometric(num_groups, kept_groups, kept_groups, groups)
        for mine in range(top_k + 1):  # number of each router's experts in groups that both keep
            first = kept * _hypergeometric(reach, groups * size, top_k, mine)
            for theirs in range(other_top_k + 1):
                both = first * _hypergeometric(reach, groups * size, other_top_k, theirs)
                for common in range(min(mine, theirs) + 1):
                    shared[common] += both * _hypergeometric(groups * size, mine, theirs, common)
    index = jaccard(np.arange(top_k + 1), top_k, other_top_k)
    return FairAgreement(float(shared @ index), float(shared[top_k]) if top_k == other_top_k else 0.0)


def _hypergeometric(population: int, marked: int, drawn: int, hit: int) -> float:
    """Return the probability that `hit` of `drawn` items are marked, if `marked` of `population` items are marked."""
    if not 0 <= drawn <= population:
        return 0.0
    missed = drawn - hit
    if missed < 0 or missed > population - marked:
        return 0.0
    return math.comb(marked, hit) * math.comb(population - marked, missed) / math.comb(population, drawn)
