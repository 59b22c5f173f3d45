"""Find contradictions within one trace: between weights and affinities, and between selections and scores.

A wrong router shows within one trace: weights from biased scores, not normalised, or scaled by a wrong factor; groups
scored by their best expert instead of the best two; a wrong number of kept groups; dropped groups masked with zero, so
that their experts beat negative scores; a missing bias. Each of these faults contradicts recorded numbers by far more
than rounding does, so none is mistaken for a near tie. `faults` needs only a trace; the comparison of traces and the
doctor both use it.

Shape suffixes: T tokens, E experts, G groups, K selected experts of a token.

Source: DeepSeek-V3 report (arXiv 2412.19437), equations 12 to 16: the bias enters the selection only.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from model.trace.near_ties import reach_of_scores
from model.trace.observed_rule import rule_known, rule_of
from model.trace.router_rule import RouterRule, margin, selection_of
from model.trace.routing import by_expert, untouched_layers
from model.trace.scores import biased_scores, decided_layers, needed, reachable
from model.trace.trace import Trace, TraceError

BIASED_WEIGHTS = "weights from biased scores"
NOT_NORMALISED = "weights not normalised"
NORMALISED = "weights normalised"
OTHER_SCALE = "another scaling factor"
OTHER_WEIGHTS = "weights follow no known rule"
ZERO_MASK = "groups masked with zero"
DROPPED_GROUP = "experts of dropped groups chosen"
GROUP_RULE = "groups scored by another rule"
GROUP_NUMBER = "another number of groups kept"
GROUP_CHOICE = "groups kept against the recorded scores"
NO_BIAS = "chosen without the bias"
OTHER_CHOICE = "chosen against the recorded scores"
# Tolerance of weights, relative to the largest weight. Routers compute in fp32; an engine may record fewer bits.
_MEASURED, _IMPORTED = 1e-4, 2.0**-6
_READ = (
    "router_score", "router_logit", "expert_bias", "expert_factor", "expert_id", "gate_weight", "group_kept",
    "group_score",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """A contradiction between the recorded numbers of a trace.

    Attributes:
        kind: kind of contradiction, a constant of this module.
        layers: model layer numbers of the layers with the contradiction.
        decisions: number of (token, layer) pairs with the contradiction, in these layers.
        of: number of (token, layer) pairs that were checked, in these layers.
        evidence: a phrase with the contradicting values in the first of these layers.
    """

    kind: str
    layers: tuple[int, ...]
    decisions: int
    of: int
    evidence: str


class _Finding(NamedTuple):
    kind: str
    decisions: int
    evidence: str


def faults(trace: Trace) -> list[Fault]:
    """Return the contradictions within a trace; an empty list if there are none.

    The list is also empty if the trace lacks affinities, bias or selected experts, or if no rule is known.

    Tokens with unknown experts and layers with interventions are not checked. Where experts follow from the token id,
    only the weights are. If the run found a rule without weights, only the selection is.
    """
    rule = rule_of(trace)
    if not rule_known(trace) or not all(map(trace.has, (*needed(rule), "expert_id"))):
        return []
    arrays = {name: trace.data[name].values for name in _READ if trace.has(name)}
    if trace.router and (rule.normalise_weights is None or rule.routed_scale is None):
        arrays.pop("gate_weight", None)
    untouched = untouched_layers(trace.interventions, trace.data["moe_layer"]).values
    decided, precise, stated, by_kind = decided_layers(trace).values, _is_precise(trace), _stated(trace), {}
    for index, number in enumerate(trace.data["moe_layer"].values.tolist()):
        known = (arrays["expert_id"][:, index] >= 0).all(-1)
        if untouched[index] and known.any():
            layer = {
                name: values[index] if name in ("expert_bias", "expert_factor") else values[known, index]
                for name, values in arrays.items()
            }
            findings = list(_weights(layer, rule, trace.shape.idle_from, _MEASURED if precise else _IMPORTED))
            if decided[index] and (trace.router or "group_kept" in layer):
                dtype = "float32" if precise else "bfloat16"
                findings += [*_choice(layer, rule, dtype), *_groups(layer, stated, dtype)]
            for finding in findings:
                by_kind.setdefault(finding.kind, []).append((number, int(known.sum()), finding))
    return [_sum_up(kind, findings) for kind, findings in by_kind.items()]


def _is_precise(trace: Trace) -> bool:
    """Return whether router and recording have the precision of fp32. Our network's router has, in any dtype."""
    return trace.origin.get("kind") == "measured" and (trace.router is None or trace.origin.get("dtype") == "float32")


def _sum_up(kind: str, of_layers: list[tuple[int, int, _Finding]]) -> Fault:
    layers, checked, findings = zip(*of_layers, strict=True)
    decisions = sum(finding.decisions for finding in findings)
    return Fault(kind, layers, decisions, sum(checked), f"L{layers[0]}: {findings[0].evidence}")


# --- weights ---------------------------------------------------------------------------------------------------------


def _weights(layer: dict[str, np.ndarray], rule: RouterRule, idle_from: int | None, reach: float) -> Iterator[_Finding]:
    """Find the rule that the weights follow, and yield a finding for each difference from the configuration's rule.

    Choices of experts from `idle_from` on, which compute nothing, are left out.
    """
    ids = layer["expert_id"].astype(int)
    acts_TK = ids < (layer["router_score"].shape[-1] if idle_from is None else idle_from)
    if "gate_weight" not in layer or not acts_TK.any():
        return
    weights_TK = np.where(acts_TK, layer["gate_weight"].astype(float), 0)
    if rule.has_expert_factor:
        with np.errstate(all="ignore"):
            weights_TK = weights_TK / layer["expert_factor"][ids] if "expert_factor" in layer else weights_TK * np.nan
    scores_TK = np.take_along_axis(layer["router_score"].astype(float), ids, -1)
    bases = {False: scores_TK, True: scores_TK}
    if rule.has_selection_bias and not rule.bias_on_logits:
        bases[True] = scores_TK + layer["expert_bias"].astype(float)[ids]
    stated, scale = rule.normalise_weights, rule.routed_scale
    normal = stated is not False
    for biased, normalised in ((False, normal), (False, not normal), (True, normal), (True, not normal)):
        fitted, misfit = _fit(weights_TK, np.where(acts_TK, _shares(rule, bases[biased], normalised), 0))
        if misfit <= reach:
            break
    else:
        yield _Finding(OTHER_WEIGHTS, len(ids), "neither affinities nor biased scores give the weights")
        return
    if biased:
        _, right = _fit(weights_TK, np.where(acts_TK, _shares(rule, bases[False], normalised), 0))
        evidence = (
            f"the error of weights in proportion to affinity + bias is {misfit:.1g}, to affinity alone {right:.1g}"
        )
        yield _Finding(BIASED_WEIGHTS, len(ids), evidence)
    if stated is not None and normalised != normal:
        sums = weights_TK.sum(-1)
        evidence = f"a token's weights sum to {sums.min():.3g} to {sums.max():.3g}"
        yield _Finding(NORMALISED if normalised else NOT_NORMALISED, len(ids), evidence)
    if scale is not None and abs(fitted - scale) > reach * abs(scale):
        yield _Finding(OTHER_SCALE, len(ids), f"{fitted:.4g}; the configuration says {scale:.4g}")


def _shares(rule: RouterRule, base_TK: np.ndarray, normalised: bool) -> np.ndarray:
    """Return the gate weights, before scaling, that the rule gives for the selected experts' scores `base_TK`."""
    with np.errstate(all="ignore"):
        return dataclasses.replace(rule, normalise_weights=normalised).shares(base_TK)


def _fit(weights_TK: np.ndarray, shares_TK: np.ndarray) -> tuple[float, float]:
    """Return the least-squares scaling factor, and the largest error of a weight divided by the largest weight."""
    with np.errstate(all="ignore"):
        scale = (weights_TK * shares_TK).sum() / (shares_TK**2).sum()
        error = np.abs(weights_TK - scale * shares_TK).max() / np.abs(weights_TK).max()
    return float(scale), float(error) if np.isfinite(error) else np.inf


# --- choices ---------------------------------------------------------------------------------------------------------


def _choice(layer: dict[str, np.ndarray], rule: RouterRule, dtype: str) -> Iterator[_Finding]:
    """Yield a finding if the recorded scores do not give the recorded selection.

    The kind of the finding names the wrong rule.
    """
    if rule.num_groups > 1 and "group_kept" not in layer:
        return
    scores_TE = layer["router_score"]
    reach_TE, biased_TE = reach_of_scores(layer, dtype, rule), biased_scores(layer, rule)
    selected_TE = by_expert(layer["expert_id"], np.array(True), scores_TE.shape[-1], False)
    kept_TE = np.broadcast_to(reachable(layer.get("group_kept"), rule), scores_TE.shape)
    dropped_T = np.any(selected_TE & ~kept_TE, axis=-1)
    if dropped_T.any():
        masked_TE = np.where(kept_TE, biased_TE, np.float32(0))
        explained = (margin(masked_TE + np.where(selected_TE, reach_TE, -reach_TE), selected_TE) >= 0).all()
        lowest = biased_TE[kept_TE & ~selected_TE & dropped_T[:, None]].max(initial=-np.inf)
        evidence = f"{dropped_T.sum():,} of {len(dropped_T):,} tokens took experts of groups that were not kept"
        evidence += f", where the best kept expert left out has {lowest:.3g}" if np.isfinite(lowest) else ""
        yield _Finding(ZERO_MASK if explained else DROPPED_GROUP, int(dropped_T.sum()), evidence)
        return
    lead_T, moved_TE = margin(biased_TE, selected_TE, kept_TE), np.where(selected_TE, reach_TE, -reach_TE)
    against_T = margin(biased_TE + moved_TE, selected_TE, kept_TE) < 0
    if against_T.any():
        without_bias = (margin(scores_TE + moved_TE, selected_TE, kept_TE) >= 0).all()
        evidence = f"the last chosen expert trails a better one by up to {-lead_T.min():.3g}"
        yield _Finding(NO_BIAS if without_bias else OTHER_CHOICE, int(against_T.sum()), evidence)


# --- groups ----------------------------------------------------------------------------------------------------------


def _groups(layer: dict[str, np.ndarray], stated: RouterRule | None, dtype: str) -> Iterator[_Finding]:
    """Yield the faults in group scores and kept groups, compared with the stated rule and the recorded scores."""
    kept_TG = layer.get("group_kept")
    if stated is None or kept_TG is None or stated.num_groups != kept_TG.shape[-1] or stated.num_groups == 1:
        return
    number_T = kept_TG.sum(-1)
    other_T = number_T != stated.num_kept_groups
    if other_T.any():
        numbers = " or ".join(map(str, np.unique(number_T[other_T])))
        evidence = f"{numbers} of {stated.num_groups} groups are kept; the configuration says {stated.num_kept_groups}"
        yield _Finding(GROUP_NUMBER, int(other_T.sum()), evidence)
    biased_TE = biased_scores(layer, stated)
    expected_TG = stated.group_scores(biased_TE)
    reach_TG = stated.scores_per_group * reach_of_scores(layer, dtype, stated).reshape(*kept_TG.shape, -1).max(-1)
    if "group_score" in layer:
        off_T = (np.abs(layer["group_score"] - expected_TG) > reach_TG).any(-1)
        if off_T.any():
            gap = float(np.abs(layer["group_score"] - expected_TG).max())
            yield _Finding(GROUP_RULE, int(off_T.sum()), _group_rule(layer["group_score"], biased_TE, stated, gap))
            return
    against_T = margin(expected_TG + np.where(kept_TG, reach_TG, -reach_TG), kept_TG) < 0
    if against_T.any():
        trail = -margin(expected_TG, kept_TG).min()
        yield _Finding(GROUP_CHOICE, int(against_T.sum()), f"a kept group trails a dropped one by up to {trail:.3g}")


def _stated(trace: Trace) -> RouterRule | None:
    """Return the stated rule; None if it is incomplete, has no groups, or contradicts the recorded axes."""
    if trace.router is not None:
        return trace.router.rule
    try:
        rule = RouterRule.of(trace.config)
    except TraceError:
        return None
    fits = rule.num_experts == trace.data.sizes["expert"] and rule.group_size >= rule.scores_per_group
    if not fits or selection_of(trace.config) == "greedy":
        return None
    return dataclasses.replace(rule, has_selection_bias=trace.has("expert_bias"))


def _group_rule(recorded_TG: np.ndarray, biased_TE: np.ndarray, stated: RouterRule, gap: float) -> str:
    """Return a phrase on recorded group scores that differ by up to `gap` from those by the configuration's rule.

    The phrase names the other rule (best score, or sum of the two best) if the recorded scores follow it.
    """
    count = 3 - stated.scores_per_group  # the other number of scores per group: 1 instead of 2, or 2 instead of 1
    words = {1: "the best biased score", 2: "the sum of the two best biased scores"}
    right = f"they differ from {words[stated.scores_per_group]} by up to {gap:.3g}"
    if stated.group_size < count:
        return right
    other_TG = dataclasses.replace(stated, scores_per_group=count).group_scores(biased_TE)
    fits = np.abs(recorded_TG - other_TG).max() < gap / 10
    return f"{right}; they are {words[count]}" if fits else right
