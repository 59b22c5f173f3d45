"""The rule by which a router selects and weighs experts, in numpy: its layout, and each of its steps.

Outside the network this is the only implementation of the rule. `model/network/moe.py` implements the rule in torch,
and a test compares both. A new scoring function is one entry of `SCORINGS`.

Arrays are [..., expert], [..., group] or [..., rank], with any leading axes. A result has the dtype of the argument.

Sources: DeepSeek-V3 report (arXiv 2412.19437), equations 12 to 16 and section 2.1.2; DeepSeek-V2 (arXiv 2405.04434),
section 2.2: softmax, no bias, groups scored by their best expert. Other rules are those of transformers' routers:
DeepSeek-V4 (square root of the softplus), Gemma 4 (probabilities and a factor per expert), Kolibri (bias on logits).
A softmax over the selected logits only, as in gpt-oss, equals a softmax over all logits with normalised weights.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from model.trace.errors import TraceError

SIGMOID, SOFTMAX, SQRTSOFTPLUS, IDENTITY = "sigmoid", "softmax", "sqrtsoftplus", "identity"
MOST_SCALE = 1e30  # largest accepted factor of the weights, which float32 can hold
EPSILON = 1e-20  # added to the divisor of normalised weights, as in the released code
_Scores = TypeVar("_Scores")  # a numpy or xarray array


class Scoring(NamedTuple):
    """A scoring function, which turns logits into affinities, and its inverse.

    Attributes:
        affinity: function from logits [..., expert] to affinities.
        logit: function from affinities to logits in float64; infinite if rounding moved an affinity to 0 or 1.
        is_exact: whether `logit` returns the logit itself, not the logit minus a constant that all experts share.
        saturates: whether affinities lie between 0 and 1 and are independent of each other, so that each can stay near
            0 or near 1.
    """

    affinity: Callable[[np.ndarray], np.ndarray]
    logit: Callable[[np.ndarray], np.ndarray]
    is_exact: bool
    saturates: bool


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    one = logits.dtype.type(1)
    with np.errstate(over="ignore"):
        return one / (one + np.exp(-logits))


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _sqrtsoftplus(logits: np.ndarray) -> np.ndarray:
    return np.sqrt(np.logaddexp(logits.dtype.type(0), logits))


def _logit_of_sqrtsoftplus(affinity: np.ndarray) -> np.ndarray:
    softplus = affinity**2
    return softplus + np.log(-np.expm1(-softplus))


def _same(values: np.ndarray) -> np.ndarray:
    """Return the argument: a router with the scoring `IDENTITY` returns its affinities, not logits."""
    return values


SCORINGS: dict[str, Scoring] = {
    SIGMOID: Scoring(_sigmoid, lambda s: np.log(s) - np.log1p(-s), is_exact=True, saturates=True),
    SOFTMAX: Scoring(_softmax, np.log, is_exact=False, saturates=False),
    SQRTSOFTPLUS: Scoring(_sqrtsoftplus, _logit_of_sqrtsoftplus, is_exact=True, saturates=False),
    IDENTITY: Scoring(_same, _same, is_exact=True, saturates=False),
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RouterRule:
    """The layout and the rule of a router, which are the same in all MoE layers of a model.

    Attributes:
        num_experts: number of routed experts.
        top_k: number of experts that a token selects.
        num_groups, num_kept_groups: number of routing groups, and how many of them a token keeps.
        scoring: key of `SCORINGS`.
        has_selection_bias: whether a bias is added to the scores before groups and experts are selected. The bias never
            enters the weights.
        bias_on_logits: whether experts are selected by logit plus bias, not by affinity plus bias.
        scores_per_group: number of best biased scores whose sum is a group's score: 2 in V3, 1 in V2.
        normalise_weights: whether the affinities of the selected experts are divided by their sum; None: unknown.
        has_expert_factor: whether each expert has a factor of its own, applied after the normalisation.
        routed_scale: factor of the weights, applied last; None: unknown.
    """

    num_experts: int
    top_k: int
    num_groups: int = 1
    num_kept_groups: int = 1
    scoring: str = SIGMOID
    has_selection_bias: bool = True
    bias_on_logits: bool = False
    scores_per_group: int = 2
    normalise_weights: bool | None = True
    has_expert_factor: bool = False
    routed_scale: float | None = 1.0

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "RouterRule":
        """Return the rule that a published config.json states; the model type gives defaults.

        An unknown scoring function is kept as stated: the numbers of experts and groups are useful without it.

        Raises:
            TraceError: a count is missing or is no whole number, or the counts contradict each other.
        """
        selection = selection_of(config)
        grouped = selection != "greedy"
        normalise = config.get("norm_topk_prob", not is_v2(config))
        rule = cls(
            num_experts=whole(config, "n_routed_experts"),
            top_k=whole(config, "num_experts_per_tok"),
            num_groups=whole(config, "n_group", 1) if grouped else 1,
            num_kept_groups=whole(config, "topk_group", 1) if grouped else 1,
            scoring=str(config.get("scoring_func") or usual_scoring(config)),
            has_selection_bias=selection == "noaux_tc",
            scores_per_group=2 if selection == "noaux_tc" else 1,
            normalise_weights=normalise if isinstance(normalise, bool) else None,
            routed_scale=scale_of(config.get("routed_scaling_factor", 1.0)),
        )
        if not 1 <= rule.top_k <= rule.num_experts or rule.num_groups < 1 or rule.num_experts % rule.num_groups:
            raise TraceError(
                "the configuration of the model named contradicts itself: experts, groups, experts per token"
            )
        return rule

    @classmethod
    def from_json(cls, stated: object) -> "RouterRule":
        """Return the rule that `to_json` turned into JSON values.

        Raises:
            TraceError: a field is missing, unknown or of another kind, or the counts contradict each other.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(stated, Mapping) or set(stated) != set(names):
            raise TraceError(f"a router rule must state {', '.join(names)}, and nothing else")
        for name, value in stated.items():
            if not _FIELDS[name](value):
                raise TraceError(f"{name} of a router rule cannot be {value!r:.40}")
        rule = cls(**stated)
        grouped = rule.num_experts % rule.num_groups == 0 and rule.num_kept_groups <= rule.num_groups
        if not grouped or rule.top_k > rule.num_kept_groups * rule.group_size:
            raise TraceError("a router rule contradicts itself: experts, groups, experts per token")
        if rule.num_kept_groups < rule.num_groups and rule.scores_per_group > rule.group_size:
            raise TraceError(f"a router rule scores groups of {rule.group_size} by {rule.scores_per_group} experts")
        return rule

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)

    @property
    def ungrouped(self) -> "RouterRule":
        """The same rule without the group limit."""
        return dataclasses.replace(self, num_groups=1, num_kept_groups=1)

    @property
    def group_size(self) -> int:
        """The number of experts per group."""
        return self.num_experts // self.num_groups

    @property
    def fair_share(self) -> float:
        """The share of tokens that each expert gets with a uniform load."""
        return self.top_k / self.num_experts

    def group_of(self, expert: int) -> int:
        """Return the group of an expert."""
        return expert // self.group_size

    def affinity(self, logits: np.ndarray) -> np.ndarray:
        """Return the affinities, [..., expert], from the router's logits."""
        return SCORINGS[self.scoring].affinity(logits)

    def logit(self, affinity: np.ndarray) -> np.ndarray:
        """Return the logits of affinities in float64; `Scoring` says when they are infinite or not exact.

        >>> RouterRule(num_experts=2, top_k=1).logit(np.array([0.5, 0.8])).round(4).tolist()
        [0.0, 1.3863]
        """
        with np.errstate(divide="ignore"):
            return SCORINGS[self.scoring].logit(affinity.astype(np.float64))

    def biased(self, affinity: _Scores, bias: Any = 0, logits: _Scores | None = None) -> _Scores:  # noqa: ANN401
        """Return the biased scores, [..., expert]: affinity plus bias, or logit plus bias if the rule says so.

        Args:
            affinity: affinities, [..., expert].
            bias: selection bias, [..., expert]; 0 for a router without one.
            logits: the router's logits, [..., expert]; needed only if `bias_on_logits`.

        Raises:
            ValueError: the rule adds the bias to logits, and there are none.
        """
        if not self.bias_on_logits:
            return affinity + bias
        if logits is None:
            raise ValueError("this router adds its bias to the logits, which are not given")
        return logits + bias

    def group_scores(self, biased: np.ndarray) -> np.ndarray:
        """Return the score of each group, [..., group], from biased scores [..., expert].

        Raises:
            ValueError: a group has fewer experts than `scores_per_group`.
        """
        grouped, count = biased.reshape(*biased.shape[:-1], self.num_groups, -1), self.scores_per_group
        if grouped.shape[-1] < count:
            raise ValueError(f"a group of {grouped.shape[-1]} has no {count} best experts to judge it by")
        return np.partition(grouped, -count, axis=-1)[..., -count:].sum(-1)

    def keep_groups(self, group_scores: np.ndarray) -> np.ndarray:
        """Return a mask of the kept groups, [..., group]."""
        return largest(group_scores, self.num_kept_groups)

    def select(
        self, biased: np.ndarray, knocked_out: np.ndarray | bool = False, forced: np.ndarray | bool = False
    ) -> np.ndarray:
        """Return a mask of the selected experts, [..., expert], from biased scores.

        Args:
            biased: biased scores, [..., expert].
            knocked_out: bool mask [expert] of experts that are never selected; in the score of its group, a knocked-out
                expert counts with the lowest of all biased scores.
            forced: bool mask [expert] of experts that are always selected, also from a group that is not kept.

        Raises:
            ValueError: a group has fewer experts than `scores_per_group`.
        """
        allowed = np.where(knocked_out, -np.inf, biased)
        if self.num_kept_groups < self.num_groups:
            scored = np.where(knocked_out, biased.min(-1, keepdims=True), biased)
            kept = np.repeat(self.keep_groups(self.group_scores(scored)), self.group_size, axis=-1)
            allowed = np.where(kept, allowed, -np.inf)
        return largest(np.where(forced, np.inf, allowed), self.top_k)

    def expert_ids(self, biased: np.ndarray) -> np.ndarray:
        """Return the ids of the selected experts in ascending order, [..., rank]; see `select` for errors."""
        selected = self.select(biased)
        return np.nonzero(selected)[-1].reshape(*selected.shape[:-1], self.top_k)

    def shares(self, affinity: np.ndarray) -> np.ndarray:
        """Return the gate weights before all factors from the selected affinities, [..., rank]; NaN if unknown."""
        if self.normalise_weights is None:
            return np.full_like(affinity, np.nan)
        if not self.normalise_weights:
            return affinity
        return affinity / (affinity.sum(-1, keepdims=True) + affinity.dtype.type(EPSILON))

    def weights(self, affinity: np.ndarray, factors: np.ndarray | None = None) -> np.ndarray:
        """Return the gate weights of the selected experts, [..., rank]; NaN if the rule is unknown.

        Args:
            affinity: affinities of the selected experts, [..., rank].
            factors: factors of the selected experts, [..., rank]. If `has_expert_factor`, the weights are NaN without
                them; otherwise they are ignored.
        """
        shares = self.shares(affinity)
        if self.has_expert_factor:
            shares = shares * (affinity.dtype.type(np.nan) if factors is None else factors.astype(affinity.dtype))
        return shares * affinity.dtype.type(np.nan if self.routed_scale is None else self.routed_scale)


def _is_count(most: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and 1 <= value <= most


def _is_flag(value: object) -> bool:
    return type(value) is bool


# Field of a rule -> whether a JSON value can be its value. Expert ids are int16.
_FIELDS: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("num_experts", "top_k", "num_groups", "num_kept_groups"), _is_count(1 << 15)),
    **dict.fromkeys(("has_selection_bias", "bias_on_logits", "has_expert_factor"), _is_flag),
    "scoring": lambda value: isinstance(value, str) and value in SCORINGS,
    "scores_per_group": _is_count(2),
    "normalise_weights": lambda value: value is None or _is_flag(value),
    "routed_scale": lambda value: value is None or not isinstance(value, bool) and scale_of(value) is not None,
}


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """Return a mask of the `count` largest entries along the last axis; ties are broken arbitrarily."""
    mask = np.zeros(values.shape, dtype=bool)
    np.put_along_axis(mask, np.argpartition(values, -count, axis=-1)[..., -count:], True, axis=-1)
    return mask


def margin(scores: np.ndarray, selected: np.ndarray, reachable: np.ndarray | bool = True) -> np.ndarray:
    """Return the margin, [...]: the lowest selected score minus the highest reachable score that was not selected.

    The margin is infinite if every reachable score was selected. It is below zero if an unselected
    reachable score is higher than a selected score.

    Args:
        scores: biased scores [..., expert], or scores of groups [..., group].
        selected: bool mask of the same shape.
        reachable: bool mask of the same shape: the scores that compete; for experts, those in kept groups.
    """
    lowest = np.where(selected, scores, np.inf).min(-1)
    return lowest - np.where(reachable & ~selected, scores, -np.inf).max(-1)


def is_v2(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration is of DeepSeek-V2, where missing keys have other defaults."""
    return config.get("model_type") == "deepseek_v2"


def selection_of(config: Mapping[str, Any]) -> str:
    """Return `topk_method` of a configuration: "noaux_tc" (V3), "group_limited_greedy" or "greedy" (V2)."""
    return str(config.get("topk_method") or ("greedy" if is_v2(config) else "noaux_tc"))


def usual_scoring(config: Mapping[str, Any]) -> str:
    """Return the default scoring function of a configuration that states none."""
    return SOFTMAX if is_v2(config) else SIGMOID


def scale_of(stated: object) -> float | None:
    """Return a stated factor of the weights; None if it is no number, or too large for float32."""
    return float(stated) if isinstance(stated, int | float) and abs(stated) <= MOST_SCALE else None


def whole(config: Mapping[str, Any], key: str, absent: int | None = None) -> int:
    """Return the whole number that a configuration states under `key`, or the default `absent`.

    Raises:
        TraceError: the value is no whole number of at least 0, or it is missing and there is no default.
    """
    value = config.get(key)
    value = absent if value is None else value
    if type(value) is not int or value < 0:
        raise TraceError(f"the configuration of the model named lacks {key}, or it is no whole number")
    return value
