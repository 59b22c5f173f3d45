"""The control of a change: the same change with random experts of equal load.

Almost any change of the routing changes the text a little. To show whether *these* experts mattered, the control
changes others of equal load: experts of the same layer whose load in the original run is within 20 % of theirs. Two
kinds of change have two kinds of draws:

- An intervention that names experts (`KnockOut`, `ForceExpert`) is repeated with other experts (`equal_experts`).
- Any other intervention may reroute every token, so the control is matched per token: it replaces as
  many of a token's experts as the change did, at random, by experts of equal load, with the gate weights of the changed
  run (`equal_rerouting`). If only gate weights changed, there is no draw.

Draws are seeded, so that the same change has the same control. If too few experts have equal load, those with the
nearest loads are drawn, and `Control` states how far their loads are.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from model.run.interventions import ForceExpert, Intervention, KnockOut, Replay, TopK
from model.trace.effects import taken
from model.trace.metrics import tokens_per_expert
from model.trace.routing import by_expert
from model.trace.trace import Trace

DRAWS = 8
TOLERANCE = 0.2
SPREADS = (0.0, 0.05, 0.1, 0.2, 0.5, 1e9)  # extra distance from the nearest load, widened until enough sets are drawn
SLACK = 1e-6  # tolerance for rounded shares
TRIES = 60  # per draw: a random set may be a duplicate, or impossible to run
Named = KnockOut | ForceExpert


@dataclasses.dataclass(frozen=True, slots=True)
class Control:
    """The draws of a control.

    Attributes:
        draws: the interventions of each draw.
        farthest: the largest relative difference between the load of a drawn expert and of the expert it replaces.
        share_beyond: share of drawn experts whose difference exceeds `TOLERANCE`, because too few were nearer.
    """

    draws: tuple[tuple[Intervention, ...], ...]
    farthest: float
    share_beyond: float


def control(
    original: Trace,
    changed: Trace,
    interventions: Sequence[Intervention],
    allowed: Callable[[tuple[Intervention, ...]], bool],
    draws: int = DRAWS,
    seed: int = 0,
) -> Control:
    """Return the draws for a change; fewer than `draws` if no more exist.

    Args:
        original: the run without the change, router captured.
        changed: the run with it, fed the same tokens.
        interventions: the change.
        allowed: whether a run can have these interventions.
        draws: number of draws.
        seed: seed of the random numbers.
    """
    rng = np.random.default_rng(seed)
    named = [change for change in interventions if isinstance(change, Named)]
    if named:
        others = tuple(change for change in interventions if not isinstance(change, Named))
        return equal_experts(original, named, lambda changes: allowed((*others, *changes)), draws, rng, others)
    layers = _layers_of(interventions, original)
    return equal_rerouting(original, changed, layers, draws, rng)


def _layers_of(interventions: Sequence[Intervention], trace: Trace) -> tuple[int, ...]:
    """Return the layers that the interventions name."""
    every, layers = trace.data["moe_layer"].values.tolist(), set[int]()
    for change in interventions:
        if isinstance(change, Replay):
            layers |= set(change.layers)
        else:
            layer = None if isinstance(change, TopK) else change.layer
            layers |= set(every if layer is None else [layer])
    return tuple(sorted(layers))


# --- other experts ---------------------------------------------------------------------------------------------------


def equal_experts(
    original: Trace,
    named: Sequence[Named],
    allowed: Callable[[tuple[Intervention, ...]], bool],
    draws: int,
    rng: np.random.Generator,
    others: tuple[Intervention, ...] = (),
) -> Control:
    """Return the interventions on random experts of equal load, no set twice; `others` are kept unchanged."""
    counts = tokens_per_expert(original.data["expert_id"], original.data.sizes["expert"])
    sets = _draw_singles(counts, named[0], allowed, draws, rng) if len(named) == 1 else []
    for spread in SPREADS if len(named) > 1 else ():
        wider = _draw_sets(counts, named, spread, allowed, draws, rng)
        sets = max(sets, wider, key=len)
        if len(sets) >= draws:
            break
    apart = np.concatenate([np.zeros(0), *(_distances(counts, named, one) for one in sets)])
    return _control([(*others, *one) for one in sets], apart)


def _control(draws: Sequence[tuple[Intervention, ...]], apart: np.ndarray) -> Control:
    """Make a control of draws and the distances of their experts' loads, [expert]."""
    beyond = float((apart > TOLERANCE + SLACK).mean()) if len(apart) else 0.0
    return Control(tuple(draws), float(apart.max(initial=0.0)), beyond)


def _draw_singles(
    counts: xr.DataArray,
    change: Named,
    allowed: Callable[[tuple[Intervention, ...]], bool],
    draws: int,
    rng: np.random.Generator,
) -> list[tuple[Named, ...]]:
    """Return other experts of the layer: those of equal load at random, then the nearest."""
    loads = counts.sel(moe_layer=change.layer).values
    cost = np.maximum(_apart(loads, loads[change.expert]) - TOLERANCE, 0) + rng.random(len(loads)) * SLACK
    singles = [(dataclasses.replace(change, expert=int(e)),) for e in cost.argsort() if e != change.expert]
    return [one for one in singles if allowed(one)][:draws]


def _draw_sets(
    counts: xr.DataArray,
    named: Sequence[Named],
    spread: float,
    allowed: Callable[[tuple[Intervention, ...]], bool],
    draws: int,
    rng: np.random.Generator,
) -> list[tuple[Named, ...]]:
    """Return up to `draws` different sets.

    In random order, each named expert is replaced by an unused expert of equal load. If there is none, it is replaced
    by the expert with the nearest load, or one farther by at most `spread`.
    """
    layers = {change.layer: counts.sel(moe_layer=change.layer).values for change in named}
    apart = [_apart(layers[one.layer], layers[one.layer][one.expert]) for one in named]
    costs = [np.maximum(distances - TOLERANCE, 0) for distances in apart]
    sets: dict[frozenset[Named], tuple[Named, ...]] = {}
    for _ in range(draws * TRIES):
        excluded = {layer: np.zeros(len(loads)) for layer, loads in layers.items()}
        for change in named:
            excluded[change.layer][change.expert] = np.inf
        drawn: list[Named] = []
        for index in rng.permutation(len(named)):
            layer = named[index].layer
            cost = costs[index] + excluded[layer]
            if np.isinf(cost.min()):
                return list(sets.values())  # the layer has no other experts left
            expert = int(rng.choice(np.flatnonzero(cost <= cost.min() + spread + SLACK)))
            excluded[layer][expert] = np.inf
            drawn.append(dataclasses.replace(named[index], expert=expert))
        one = tuple(sorted(drawn, key=lambda change: (change.layer, change.expert)))
        if frozenset(one) not in sets and allowed(one):
            sets[frozenset(one)] = one
            if len(sets) == draws:
                break
    return list(sets.values())


def _distances(counts: xr.DataArray, named: Sequence[Named], drawn: Sequence[Named]) -> np.ndarray:
    """Return the distance of each drawn expert's load from its named expert's, both sorted by load."""
    distances = []
    for layer in sorted({change.layer for change in named}):
        loads = counts.sel(moe_layer=layer).values
        target, actual = (np.sort([loads[one.expert] for one in some if one.layer == layer]) for some in (named, drawn))
        distances.append(_apart(actual, target))
    return np.concatenate(distances)


def _apart(loads: np.ndarray, target: np.ndarray | float) -> np.ndarray:
    """Return the relative difference from a target load; an idle target counts as one token."""
    return np.abs(loads - target) / np.maximum(target, 1)


# --- other experts token by token ------------------------------------------------------------------------------------


def equal_rerouting(
    original: Trace, changed: Trace, layers: tuple[int, ...], draws: int, rng: np.random.Generator
) -> Control:
    """Return random routings in which every token exchanges as many experts as in the changed run."""
    num_experts, moe_layers = original.data.sizes["expert"], original.data["moe_layer"].values.tolist()
    rows = [moe_layers.index(layer) for layer in layers]
    after = taken(changed, num_experts)[:, rows]
    loads = tokens_per_expert(original.data["expert_id"], num_experts).values[rows]
    ids, weights = (changed.data[name].values[:, rows] for name in ("expert_id", "gate_weight"))
    own = by_expert(original.data["expert_id"].values, original.data["gate_weight"].values, num_experts, 0)[:, rows]
    if not ((own > 0) != after).any():
        return _control([], np.zeros(0))
    top_k = () if ids.shape[-1] == original.data.sizes["rank"] else (TopK(ids.shape[-1]),)
    reroutings, apart = [], np.zeros(0)
    for _ in range(draws):
        drawn, distances = _reroute(own, ids.astype(np.int64), weights, loads, rng)
        apart = np.append(apart, distances)
        replayed = (drawn.astype("<i2").tobytes(), weights.astype("<f4").tobytes())
        reroutings.append((*top_k, Replay(layers, len(drawn), drawn.shape[-1], *replayed)))
    return _control(reroutings, apart)


def _reroute(
    own: np.ndarray, ids: np.ndarray, weights: np.ndarray, loads: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw experts [token, layer, rank] for the weights of the changed run; also return the new ones' load distances.

    Args:
        own: weights in the original run, [token, layer, expert].
        ids: experts of the changed run, [token, layer, rank], the largest weight first.
        weights: their weights.
        loads: tokens of the original run, [layer, expert].
        rng: random numbers.
    """
    mine, acting = own > 0, weights > 0
    stays = np.take_along_axis(mine, ids, -1) & acting
    comes = acting & ~stays
    # As many of a token's own experts stay as in the changed run, drawn at random; they keep their order.
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
    # Ranks without weight need an expert as well: one that the token does not have yet, its own first.
    taboo = by_expert(drawn, np.array(True), own.shape[-1], False)
    for rank in range(ids.shape[-1]):
        cost = np.where(mine, 0.0, 1.0) + rng.random(own.shape) * SLACK + np.where(taboo, np.inf, 0)
        _take(drawn, taboo, rank, ~acting[..., rank], cost)
    return drawn, np.concatenate(apart)


def _take(drawn: np.ndarray, taboo: np.ndarray, rank: int, where: np.ndarray, cost: np.ndarray) -> None:
    """Give the rank of the tokens and layers `where` to their cheapest expert, which is then taboo for them."""
    cheapest = cost.argmin(-1)
    drawn[..., rank] = np.where(where, cheapest, drawn[..., rank])
    marked = np.take_along_axis(taboo, cheapest[..., None], -1) | where[..., None]
    np.put_along_axis(taboo, cheapest[..., None], marked, -1)
