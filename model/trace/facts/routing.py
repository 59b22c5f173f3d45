"""Facts about routing: a model's experts, one token's decision, and experts that the bias or the group limit excluded.

Layers have the model's own numbers. Affinities are the router's scores before the bias, from 0 to 1 with sigmoid.
"""

import numpy as np

from model.trace import near_ties
from model.trace.facts.sources import FactError, Sources
from model.trace.routing import by_expert
from model.trace.scores import biased_scores


def experts(sources: Sources) -> int:
    """Return the number of routed experts of a layer."""
    return sources.rule.num_experts


def experts_per_token(sources: Sources) -> int:
    """Return the number of routed experts that a token selects in a layer, top-k."""
    return sources.rule.top_k


def shared_experts(sources: Sources) -> int:
    """Return the number of shared experts of a layer, which every token passes through."""
    return int(sources.trace.config.get("n_shared_experts") or 0)


def groups(sources: Sources) -> int:
    """Return the number of groups of a layer's experts."""
    return sources.rule.num_groups


def kept_groups(sources: Sources) -> int:
    """Return the number of groups that a token keeps."""
    return sources.rule.num_kept_groups


def layers(sources: Sources) -> int:
    """Return the number of layers of the model."""
    return sources.trace.shape.num_layers


def moe_layers(sources: Sources) -> int:
    """Return the number of layers with experts."""
    return sources.variable("expert_id").sizes["moe_layer"]


def expert(sources: Sources, token: int, layer: int, rank: int = 1) -> int:
    """Return the expert with the `rank`-th largest gate weight of a token in a layer; ranks count from 1."""
    ids = sources.at("expert_id", layer)[sources.token(token)]
    if not 1 <= rank <= len(ids):
        raise FactError(f"a token selects {len(ids)} experts, so none has rank {rank}")
    return int(ids[rank - 1])


def chosen(sources: Sources, token: int, layer: int, expert: int) -> bool:
    """Return whether a token selected an expert in a layer."""
    return bool(sources.expert(expert) in sources.at("expert_id", layer)[sources.token(token)])


def weight(sources: Sources, token: int, layer: int, expert: int) -> float:
    """Return the gate weight of an expert for a token; 0 if it was not selected."""
    ids, weights = (sources.at(name, layer)[sources.token(token)] for name in ("expert_id", "gate_weight"))
    return float(weights[ids == sources.expert(expert)].sum())


def weight_sum(sources: Sources, token: int, layer: int) -> float:
    """Return the sum of a token's gate weights in a layer."""
    return float(sources.at("gate_weight", layer)[sources.token(token)].sum())


def affinity(sources: Sources, token: int, layer: int, expert: int) -> float:
    """Return the affinity of a token to an expert."""
    return float(sources.at("router_score", layer)[sources.token(token), sources.expert(expert)])


def affinity_sum(sources: Sources, token: int, layer: int) -> float:
    """Return the sum of a token's affinities to all experts of a layer."""
    return float(sources.at("router_score", layer)[sources.token(token)].astype(float).sum())


def bias(sources: Sources, layer: int, expert: int) -> float:
    """Return the selection bias of an expert, in units of affinity."""
    return float(sources.at("expert_bias", layer)[sources.expert(expert)])


def lowest_bias(sources: Sources, layer: int) -> int:
    """Return the expert of a layer with the lowest selection bias."""
    return int(sources.at("expert_bias", layer).argmin())


def biased(sources: Sources, token: int, layer: int, expert: int) -> float:
    """Return the biased score of an expert for a token."""
    return float(_biased(sources, layer)[sources.token(token), sources.expert(expert)])


def weight_by_affinity(sources: Sources, token: int, layer: int, expert: int) -> float:
    """Return the gate weight that the router's rule makes of the selected affinities; 0 if not selected."""
    value = sources.decision(token, layer).experts["expected"].values[sources.expert(expert)]
    return 0.0 if np.isnan(value) else float(value)


def weight_if_biased(sources: Sources, token: int, layer: int, expert: int) -> float:
    """Return the gate weight that an expert would have if weights were made from biased scores; 0 if not selected."""
    at = sources.decision(token, layer)
    scores = at.experts["biased"].values[at.chosen].astype(float)
    by_number = dict(zip(at.chosen.tolist(), sources.rule.weights(scores).tolist(), strict=True))
    return by_number.get(sources.expert(expert), 0.0)


def group_of(sources: Sources, expert: int) -> int:
    """Return the group of an expert."""
    return sources.rule.group_of(sources.expert(expert))


def group_kept(sources: Sources, token: int, layer: int, group: int) -> bool:
    """Return whether a token kept a group in a layer."""
    return bool(sources.at("group_kept", layer)[sources.token(token), group])


def groups_used(sources: Sources, token: int, layer: int) -> int:
    """Return the number of groups that hold a token's selected experts."""
    return len({sources.rule.group_of(int(one)) for one in sources.at("expert_id", layer)[sources.token(token)]})


def same_experts(sources: Sources, token: int, other: int, layer: int) -> int:
    """Return the number of experts that two tokens both selected in a layer."""
    ids = sources.at("expert_id", layer)
    return len(set(ids[sources.token(token)].tolist()) & set(ids[sources.token(other)].tolist()))


def experts_used(sources: Sources, layer: int) -> int:
    """Return the number of experts of a layer that at least one token of the run selected."""
    return len(np.unique(sources.at("expert_id", layer)))


# --- excluded experts ------------------------------------------------------------------------------------------------


def bias_token(sources: Sources, layer: int) -> int:
    """Return the token whose choice the bias changed most: the largest `affinity` of `bias_loser` over `bias_winner`.

    Tokens without text are left out.
    """
    reachable, selected, affinities = _masks(sources, layer)
    lost = np.where(reachable & ~selected, affinities, -np.inf).max(-1)
    return _largest(sources, lost - np.where(selected, affinities, np.inf).min(-1))


def bias_loser(sources: Sources, token: int, layer: int) -> int:
    """Return the unselected expert of the kept groups with the largest affinity."""
    reachable, selected, affinities = (mask[sources.token(token)] for mask in _masks(sources, layer))
    return int(np.where(reachable & ~selected, affinities, -np.inf).argmax())


def bias_winner(sources: Sources, token: int, layer: int) -> int:
    """Return the selected expert with the smallest affinity."""
    _, selected, affinities = (mask[sources.token(token)] for mask in _masks(sources, layer))
    return int(np.where(selected, affinities, np.inf).argmin())


def group_token(sources: Sources, layer: int) -> int:
    """Return the token whose choice the group limit changed most.

    That is the token with the largest biased score of `group_loser` over `entry`. Tokens without text are left out.
    """
    reachable, selected, _ = _masks(sources, layer)
    scores = _biased(sources, layer)
    outside = np.where(reachable, -np.inf, scores).max(-1)
    return _largest(sources, outside - np.where(selected, scores, np.inf).min(-1))


def group_loser(sources: Sources, token: int, layer: int) -> int:
    """Return the expert outside the kept groups with the largest biased score."""
    reachable, _, _ = _masks(sources, layer)
    return int(np.where(reachable, -np.inf, _biased(sources, layer))[sources.token(token)].argmax())


def entry(sources: Sources, token: int, layer: int) -> float:
    """Return the lowest biased score among a token's selected experts."""
    _, selected, _ = _masks(sources, layer)
    return float(np.where(selected, _biased(sources, layer), np.inf)[sources.token(token)].min())


# --- near ties -------------------------------------------------------------------------------------------------------


def margin(sources: Sources, token: int, layer: int) -> float:
    """Return the last selected expert's lead over the best unselected one of the kept groups, in biased score."""
    return float(sources.decision(token, layer).place_margin)


def runner_up(sources: Sources, token: int, layer: int) -> int:
    """Return the unselected expert of the kept groups with the largest biased score."""
    reachable, selected, _ = _masks(sources, layer)
    return int(np.where(reachable & ~selected, _biased(sources, layer), -np.inf)[sources.token(token)].argmax())


def nearest_tie_token(sources: Sources, layer: int) -> int:
    """Return the token with the smallest `margin` in a layer; tokens without text are left out."""
    sources.at("router_score", layer)
    margins = near_ties.place_margin(sources.trace.data.sel(moe_layer=[layer]), sources.rule).values[:, 0]
    return _largest(sources, -np.nan_to_num(margins, nan=np.inf))


def near_tie_share(sources: Sources, dtype: str) -> float:
    """Return the share of the run's decisions that rounding in a dtype could change, from 0 to 1."""
    sources.variable("router_score")
    return float(near_ties.near_ties(sources.trace.data, dtype, sources.rule).mean())


def decisions(sources: Sources) -> int:
    """Return the number of routing decisions of the run: one per token and layer with experts."""
    return sources.trace.num_tokens * moe_layers(sources)


def _masks(sources: Sources, layer: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return masks of reachable and of selected experts, and the affinities of a layer, each [token, expert]."""
    affinities = sources.at("router_score", layer)
    selected = by_expert(sources.at("expert_id", layer), np.array(True), sources.rule.num_experts, False)
    if sources.rule.num_groups == 1:
        return selected | True, selected, affinities
    return np.repeat(sources.at("group_kept", layer), sources.rule.group_size, -1), selected, affinities


def _biased(sources: Sources, layer: int) -> np.ndarray:
    """Return the biased scores of a layer, [token, expert]."""
    sources.at("router_score", layer)
    return biased_scores(sources.trace.data.sel(moe_layer=[layer]), sources.rule).values[:, 0]


def _largest(sources: Sources, values: np.ndarray) -> int:
    """Return the token with text that has the largest value."""
    return int(sources.texts[np.argmax(values[sources.texts])])
