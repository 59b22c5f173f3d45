"""The control of a change: the same change made to random experts.

Almost any change of the routing changes the text a little. The control shows whether the choice of experts mattered: it
makes the same change to other experts. A control consists of several random draws, of one of two kinds:

- If the change knocks out or forces experts of one layer, a draw knocks out or forces as many other experts of the
  layer (`other_experts`). It does so for as many tokens as the change reroutes, chosen at random among the tokens that
  the draw would reroute. If too few other experts reroute as many tokens, all draws are made for fewer tokens; the
  change is then repeated for this smaller number of its tokens, and the draws are compared with the repetition.
- Any other change may reroute every token. Without a known rule, or where experts follow from the token id, no other
  expert takes the place of a knocked-out one. In all these cases the control is matched per token. A draw replaces as
  many experts of each token as the change did. The new experts are random. Each takes the place of an expert that the
  change brought in: it has about the same load, and gets the same gate weight (`equal_rerouting`). For experts that
  only went, a draw lets as many other experts of the token go. If only gate weights changed, there is no draw.

Draws are seeded, so the same change always has the same control. If the change has no more effect than a draw, its
effect lies above those of all N draws with probability 1 / (N + 1), and below all with the same probability
(`model.trace.effects.standing`).
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from model.run.interventions import ForceExpert, Intervention, KnockOut, Replay, TopK
from model.trace.effects import taken
from model.trace.metrics import tokens_per_expert
from model.trace.observed_rule import rule_known, rule_of
from model.trace.routing import by_expert, in_router_order
from model.trace.scores import biased_scores
from model.trace.trace import Trace

DRAWS = 39  # the effects of 2 in 40 harmless changes (5 %) lie above or below those of all 39 draws
TOLERANCE = 0.2  # largest relative difference between equal loads
SLACK = 1e-6  # tolerance for rounded shares
ENOUGH = (19, 9)  # numbers of draws: 1 in 20, or 1 in 10, harmless changes has a larger effect than all draws
Named = KnockOut | ForceExpert
_Allowed = Callable[[tuple[Intervention, ...]], bool]


@dataclasses.dataclass(frozen=True, slots=True)
class Control:
    """The draws of a control, and how well they match the change.

    Attributes:
        draws: the interventions of each draw.
        num_rerouted: number of tokens that the change reroutes in its layer; 0 if `equal_rerouting` made the draws.
        num_matched: number of tokens that each draw reroutes in this layer; at most `num_rerouted`.
        repeated: the change for `num_matched` of its tokens, to compare with the draws; None if `num_matched` equals
            `num_rerouted`.
        share_beyond: in `equal_rerouting`, a random expert takes the place of an expert that the change brought in;
            the share of random experts whose load differs from that expert's load by more than `TOLERANCE`.
    """

    draws: tuple[tuple[Intervention, ...], ...]
    num_rerouted: int = 0
    num_matched: int = 0
    repeated: tuple[Intervention, ...] | None = None
    share_beyond: float = 0.0


def control(
    original: Trace,
    changed: Trace,
    interventions: Sequence[Intervention],
    allowed: _Allowed,
    draws: int = DRAWS,
    seed: int = 0,
) -> Control:
    """Return the control of a change.

    Args:
        original: the run without the change, with the router captured.
        changed: the run with the change, on the same tokens, with the router captured.
        interventions: the interventions of the change.
        allowed: function that returns whether a run can have these interventions.
        draws: number of draws; the control has fewer if no more different draws exist.
        seed: seed of the random numbers.
    """
    rng = np.random.default_rng(seed)
    named = named_experts(interventions)
    tables = original.router.table_layers if original.router else ()
    if named and rule_known(original) and named[0].layer not in tables:
        return other_experts(original, named, allowed, draws, rng)
    return equal_rerouting(original, changed, _layers_of(interventions, original), draws, rng)


def named_experts(interventions: Sequence[Intervention]) -> tuple[Named, ...]:
    """Return the interventions if all of them knock out, or all force, experts of one layer; else an empty tuple."""
    named = tuple(change for change in interventions if isinstance(change, Named))
    is_one_kind = len({(type(change), change.layer) for change in named}) == 1
    return named if is_one_kind and len(named) == len(interventions) else ()


def _layers_of(interventions: Sequence[Intervention], trace: Trace) -> tuple[int, ...]:
    """Return the MoE layers that the interventions change."""
    every, layers = trace.data["moe_layer"].values.tolist(), set[int]()
    for change in interventions:
        if isinstance(change, Replay):
            layers |= set(change.layers)
        else:
            layer = None if isinstance(change, TopK) else change.layer
            layers |= set(every if layer is None else [layer])
    return tuple(sorted(layers))


# --- other experts ---------------------------------------------------------------------------------------------------


def other_experts(
    original: Trace, named: Sequence[Named], allowed: _Allowed, draws: int, rng: np.random.Generator
) -> Control:
    """Return a control that makes the change to other sets of experts of the layer, for equally many tokens each."""
    router = LayerRouter(original, named[0])
    own = tuple(change.expert for change in named)
    masks = {
        experts: router.rerouted(experts)
        for experts in other_sets(router.rule.num_experts, own, rng)
        if allowed(tuple(dataclasses.replace(named[0], expert=expert) for expert in experts))
    }
    counts, target = {experts: int(mask.sum()) for experts, mask in masks.items()}, int(router.rerouted(own).sum())
    matched = tokens_to_match(list(counts.values()), target)
    if not matched:
        return Control((), target)
    candidates = [experts for experts, count in counts.items() if count >= matched][:draws]
    return Control(
        tuple(router.change(experts, matched, rng) for experts in candidates),
        target,
        matched,
        router.change(own, matched, rng) if matched < target else None,
    )


def other_sets(num_experts: int, own: tuple[int, ...], rng: np.random.Generator) -> list[tuple[int, ...]]:
    """Return random sets of experts not in `own`, each as large as `own`; no two sets have an expert in common.

    Sets that overlap have similar effects, so the effect of a harmless change would be above, or below,
    those of all sets too often.
    """
    order = rng.permutation(np.setdiff1d(np.arange(num_experts), own)).tolist()
    last = len(order) - len(own)
    return [tuple(sorted(order[start : start + len(own)])) for start in range(0, last + 1, len(own))]


def tokens_to_match(counts: list[int], target: int) -> int:
    """Return the number of tokens that each draw reroutes, at most `target`.

    The number is the largest for which 19 other sets of experts each reroute at least as many tokens; 19 draws allow
    a significance level of 5 %. If it is less than a quarter of `target`, or if fewer than 19 sets reroute a token, 9
    sets suffice. If fewer than 9 sets reroute a token, the number is the largest that all of these can reroute.

    Args:
        counts: number of tokens that each other set of experts reroutes.
        target: number of tokens that the change reroutes.
    """
    counts = sorted((count for count in counts if count), reverse=True)
    for number in ENOUGH:
        if len(counts) >= number and 4 * counts[number - 1] >= target:
            return min(target, counts[number - 1])
    return min(target, counts[: ENOUGH[-1]][-1]) if counts else 0


class LayerRouter:
    """The router of one layer in the original run, for the effects of knocking out or forcing experts."""

    def __init__(self, original: Trace, change: Named) -> None:
        at = original.data.sel(moe_layer=change.layer)
        self.rule, self._layer, self._knocks_out = rule_of(original), change.layer, isinstance(change, KnockOut)
        self._ids, self._weights = in_router_order(at)
        self._scores, self._biased = at["router_score"].values, biased_scores(at, self.rule).values
        self._factor = at["expert_factor"].values if "expert_factor" in at else None
        self._plain = self.rule.select(self._biased)

    def rerouted(self, experts: Sequence[int]) -> np.ndarray:
        """Return a mask of the tokens whose experts change if `experts` are knocked out or forced, [token]."""
        return (self._select(experts) != self._plain).any(-1)

    def change(self, experts: Sequence[int], num_tokens: int, rng: np.random.Generator) -> tuple[Replay]:
        """Return the routing of the layer with `experts` knocked out or forced for `num_tokens` tokens only.

        These tokens are chosen at random among the tokens that this change reroutes.
        """
        selected = self._select(experts)
        tokens = rng.permutation(np.flatnonzero((selected != self._plain).any(-1)))[:num_tokens]
        ids, weights = self._ids.copy(), self._weights.copy()
        ids[tokens] = np.nonzero(selected[tokens])[-1].reshape(len(tokens), self.rule.top_k)
        changed = ids[tokens].astype(int)
        factors = None if self._factor is None else self._factor[changed]
        weights[tokens] = self.rule.weights(np.take_along_axis(self._scores[tokens], changed, -1), factors)
        values = ids.astype("<i2").tobytes(), weights.astype("<f4").tobytes()
        return (Replay((self._layer,), len(ids), ids.shape[-1], *values),)

    def _select(self, experts: Sequence[int]) -> np.ndarray:
        mask = np.isin(np.arange(self.rule.num_experts), experts)
        return self.rule.select(self._biased, mask if self._knocks_out else False, False if self._knocks_out else mask)


# --- other experts token by token ------------------------------------------------------------------------------------


def equal_rerouting(
    original: Trace, changed: Trace, layers: tuple[int, ...], draws: int, rng: np.random.Generator
) -> Control:
    """Return a control of random routings: each draw replaces as many experts of a token as the change did."""
    num_experts, moe_layers = rule_of(original).num_experts, original.data["moe_layer"].values.tolist()
    rows = [moe_layers.index(layer) for layer in layers]
    after = taken(changed, num_experts)[:, rows]
    loads = tokens_per_expert(original.data["expert_id"], num_experts).values[rows]
    ids, weights = (changed.data[name].values[:, rows] for name in ("expert_id", "gate_weight"))
    own = by_expert(original.data["expert_id"].values, original.data["gate_weight"].values, num_experts, 0)[:, rows]
    if not ((own > 0) != after).any():
        return Control(())
    top_k = () if ids.shape[-1] == original.data.sizes["rank"] else (TopK(ids.shape[-1]),)
    reroutings, apart = [], np.zeros(0)
    for _ in range(draws):
        drawn, distances = _reroute(own, ids.astype(np.int64), weights, loads, rng)
        apart = np.append(apart, distances)
        replayed = (drawn.astype("<i2").tobytes(), weights.astype("<f4").tobytes())
        reroutings.append((*top_k, Replay(layers, len(drawn), drawn.shape[-1], *replayed)))
    beyond = float((apart > TOLERANCE + SLACK).mean()) if len(apart) else 0.0
    return Control(tuple(reroutings), share_beyond=beyond)


def _reroute(
    own: np.ndarray, ids: np.ndarray, weights: np.ndarray, loads: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return random experts [token, layer, rank], and for each exchanged expert the difference between two loads.

    These are the loads of the random expert and of the expert that it replaces in the changed run. The difference is
    relative to the latter.

    Args:
        own: gate weights in the original run, [token, layer, expert].
        ids: experts of the changed run, [token, layer, rank], the largest gate weight first.
        weights: gate weights of the experts `ids`.
        loads: number of tokens of each expert in the original run, [layer, expert].
        rng: random generator.
    """
    mine, acting = own > 0, weights > 0
    stays = np.take_along_axis(mine, ids, -1) & acting
    comes = acting & ~stays
    # A token keeps a random choice of its original experts, as many as in the changed run, in their order.
    order = np.where(mine, rng.random(own.shape), 2.0).argsort(-1).argsort(-1)
    by_weight = np.where(mine & (order < stays.sum(-1, keepdims=True)), own, -1).argsort(-1)[..., ::-1]
    drawn = np.where(stays, np.take_along_axis(by_weight, np.maximum(stays.cumsum(-1) - 1, 0), -1), -1)
    taboo, apart = mine.copy(), []
    for rank in range(ids.shape[-1]):
        distance = _apart(loads, loads[np.arange(len(loads)), ids[..., rank]][..., None])
        cost = np.maximum(distance - TOLERANCE, 0) + rng.random(own.shape) * SLACK + np.where(taboo, np.inf, 0)
        _take(drawn, taboo, rank, comes[..., rank], cost)
        newcomers = np.take_along_axis(distance, drawn[..., rank, None].clip(0), -1)[..., 0]
        apart.append(newcomers[comes[..., rank]])
    # Ranks of gate weight 0 need an expert too: one that the token does not have yet, an original expert if possible.
    taboo = by_expert(drawn, np.array(True), own.shape[-1], False)
    for rank in range(ids.shape[-1]):
        cost = np.where(mine, 0.0, 1.0) + rng.random(own.shape) * SLACK + np.where(taboo, np.inf, 0)
        _take(drawn, taboo, rank, ~acting[..., rank], cost)
    return drawn, np.concatenate(apart)


def _take(drawn: np.ndarray, taboo: np.ndarray, rank: int, where: np.ndarray, cost: np.ndarray) -> None:
    """Set `rank` of `drawn` to the expert of lowest cost where `where` is True, and mark this expert in `taboo`."""
    cheapest = cost.argmin(-1)
    drawn[..., rank] = np.where(where, cheapest, drawn[..., rank])
    marked = np.take_along_axis(taboo, cheapest[..., None], -1) | where[..., None]
    np.put_along_axis(taboo, cheapest[..., None], marked, -1)


def _apart(loads: np.ndarray, target: np.ndarray | float) -> np.ndarray:
    """Return the relative difference of loads from a target load; a target of 0 tokens counts as 1."""
    return np.abs(loads - target) / np.maximum(target, 1)
