"""Plan which experts to cut, from the sums of a sweep: saliency by several rules, and cuts that the router can bear.

With gate weight g and expert output f, over the tokens that selected an expert:

| rule | saliency of an expert |
|---|---|
| frequency | number of tokens |
| weighted | sum of g |
| ean | mean of the norm of f |
| ean-sum | sum of the norm of f |
| weighted-ean | sum of g times the norm of f |
| reap | mean of g times the norm of f |
| easy-ep | sum of g times the norm of f times max(1 - cos, 0) |

where cos is the similarity of the residual stream before and after the experts. Only routed experts are scored and cut.
Each group loses equally many, because a router with groups may keep any of them.

Sources: REAP, arXiv 2510.13999; EASY-EP, https://github.com/RUCAIBox/EASYEP; group limits, DeepSeek-V3 report
(arXiv 2412.19437), section 2.1.2.

Shape suffixes: L MoE layers, E experts, G groups.
"""

import math
from typing import NamedTuple

import numpy as np

from model.atlas.errors import AtlasError
from model.atlas.folder import Sweep
from model.trace.router_rule import RouterRule


class Rule(NamedTuple):
    """A rule of saliency.

    Attributes:
        column: the sum of counts.parquet that it needs.
        is_mean: whether the sum is divided by the number of tokens.
        meaning: the saliency in words.
    """

    column: str
    is_mean: bool
    meaning: str


FREQUENCY, REAP = "frequency", "reap"
RULES = {
    FREQUENCY: Rule("c", False, "number of tokens that select the expert"),
    "weighted": Rule("weight_sum", False, "sum of the gate weights"),
    "ean": Rule("norm_sum", True, "mean norm of the expert's output"),
    "ean-sum": Rule("norm_sum", False, "sum of the norms of the expert's output"),
    "weighted-ean": Rule("weighted_norm_sum", False, "sum of gate weight times norm"),
    REAP: Rule("weighted_norm_sum", True, "mean of gate weight times norm"),
    "easy-ep": Rule("changed_norm_sum", False, "sum of gate weight times norm times the change of the stream"),
}
FEW = 100  # tokens below which an expert's statistics are called thin


class Sums(NamedTuple):
    """Sums over all documents, each [L, E], by column of counts.parquet; columns that the sweep lacks are absent.

    `docs_hit` counts the documents that select the expert.
    """

    values: dict[str, np.ndarray]

    @property
    def tokens(self) -> np.ndarray:
        """Tokens that select each expert, int64 [L, E]."""
        return self.values["c"]

    @property
    def documents(self) -> np.ndarray:
        """Documents that select each expert, int64 [L, E]."""
        return self.values["docs_hit"]


def sums_of(sweep: Sweep) -> Sums:
    """Return the sums of a sweep over all strata, for all tokens."""
    cells = sweep.cells
    counted = np.asarray(cells["token_class"]) == "all"
    layer = np.searchsorted(sweep.layers, np.asarray(cells["layer"])[counted])
    expert = np.asarray(cells["expert"])[counted]
    sums: dict[str, np.ndarray] = {}
    for name in dict.fromkeys([*(rule.column for rule in RULES.values()), "docs_hit", "weighted_norm2_sum"]):
        if name in cells.columns and not np.isnan(values := np.asarray(cells[name])[counted]).any():
            sums[name] = np.zeros((len(sweep.layers), sweep.num_experts), values.dtype)
            np.add.at(sums[name], (layer, expert), values)
    return Sums(sums)


def missing_rules(sums: Sums) -> dict[str, str]:
    """Return the reason for each rule whose sums the sweep lacks."""
    why = {"weight_sum": "gate weights", "changed_norm_sum": "similarity of the stream before and after the experts"}
    return {
        name: f"the sweep holds no {why.get(rule.column, 'norms of the outputs of experts')}"
        for name, rule in RULES.items()
        if rule.column not in sums.values
    }


def saliency(sums: Sums, rule: str) -> np.ndarray:
    """Return the saliency of each expert by a rule, float64 [L, E]; 0 for an expert that no token selects.

    Raises:
        AtlasError: the sweep lacks the sum that the rule needs.
    """
    if reason := missing_rules(sums).get(rule):
        others = ", ".join(name for name in RULES if name not in missing_rules(sums))
        raise AtlasError(f"the rule {rule} cannot be used: {reason}; choose from {others}")
    values = sums.values[RULES[rule].column].astype(np.float64)
    if not RULES[rule].is_mean:
        return values
    return np.divide(values, sums.tokens, out=np.zeros_like(values), where=sums.tokens > 0)


# --- what a router can bear -------------------------------------------------------------------------------------------


def most_cut(rule: RouterRule) -> int:
    """Return the largest number of experts of a layer that may be cut, if each group loses equally many.

    A group whose score is the sum of its two best experts keeps at least two. The kept groups together keep at least as
    many experts as a token selects.

    >>> most_cut(RouterRule(num_experts=256, top_k=8, num_groups=8, num_kept_groups=4))
    240
    >>> most_cut(RouterRule(num_experts=32, top_k=4, num_groups=4, num_kept_groups=2))
    24
    """
    least = math.ceil(rule.top_k / rule.num_kept_groups)
    if rule.num_groups > 1:
        least = max(least, rule.scores_per_group)
    return rule.num_groups * (rule.num_experts // rule.num_groups - least)


def number_to_cut(rule: RouterRule, keep: float) -> int:
    """Return how many experts of each layer to cut, equally many per group, so that at least the share `keep` is left.

    Raises:
        AtlasError: the share is not above 0 and at most 1, cuts no expert, or leaves the router too few.
    """
    if not 0 < keep <= 1:
        raise AtlasError(f"the share to keep is {keep:g}; it must be above 0 and at most 1")
    size = rule.num_experts // rule.num_groups
    number = rule.num_groups * math.floor((1 - keep) * size + 1e-9)
    if not number:
        raise AtlasError(f"a share of {keep:g} cuts no expert; keep less")
    if number > (most := most_cut(rule)):
        groups = f" in {rule.num_groups} groups, {rule.num_kept_groups} of which a token keeps" * (rule.num_groups > 1)
        raise AtlasError(
            f"a share of {keep:g} cuts {number} of {rule.num_experts} experts{groups}: a token could not select "
            f"{rule.top_k} any more; at most {most} can be cut, a share of {1 - most / rule.num_experts:g}"
        )
    return number


def lowest(saliency_LE: np.ndarray, num_groups: int, number: int) -> np.ndarray:
    """Return a mask of the experts to cut: in each layer and group those of the lowest saliency, bool [L, E].

    Of equal saliencies, that with the lower number is cut first.

    Args:
        saliency_LE: the saliency of each expert.
        num_groups: number of groups of experts.
        number: experts to cut in each layer, a multiple of the number of groups.
    """
    by_group = saliency_LE.reshape(len(saliency_LE), num_groups, -1)
    order = by_group.argsort(-1, kind="stable")[..., : number // num_groups]
    cut = np.zeros(by_group.shape, bool)
    np.put_along_axis(cut, order, True, -1)
    return cut.reshape(saliency_LE.shape)


def random_cut(shape: tuple[int, int], num_groups: int, number: int, seed: int) -> np.ndarray:
    """Return a random mask of experts to cut, equally many per group and layer, bool [L, E]; the control of a plan."""
    return lowest(np.random.default_rng(seed).random(shape), num_groups, number)
