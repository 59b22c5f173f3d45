"""Compares a model with a healthy trace of the same tokens, and locates the change by the first layer that differs.

Before the first change both runs are equal up to rounding, so the comparison uses every recorded number: biases,
each expert's affinities, the scaling factor of the gate weights, and the norms of each token (`links`). After the first
change the layers' inputs differ; there the comparison reports only changed biases, and experts whose affinities fit
a wrong expert of the reference (one with another number) far better than the right one.

Threshold: an expert's affinities fit a wrong expert of the reference if their correlation with that expert is at least
0.8, and at least 0.3 more than with the expert of the same number.

Shape suffixes: T tokens, E experts.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from model.doctor import chain
from model.doctor.bias_reference import compare_biases
from model.doctor.exchange import Exchange, orders
from model.doctor.findings import ERROR, NOTE, Finding
from model.doctor.links import (
    Link,
    Tolerance,
    chain_of,
    changed_tokens,
    first_difference,
    relative_gaps,
    tolerance_of,
)
from model.trace.observed_rule import rule_of
from model.trace.routing import one_hot
from model.trace.trace import Trace

NAME = chain.NAME
FITS, BETTER = 0.8, 0.3
NEEDED = ("router_score", "expert_bias", "expert_id", "gate_weight", "residual_norm")
_RESTORED = "; exchanged back, the reference's numbers come out"
_NAMED = 6  # experts that a finding lists

# (layer, exchange) -> residual norms, [token, layer], of a run of the reference's tokens with this exchange.
RunExchanged = Callable[[int, Exchange], np.ndarray]


class UnusableReferenceError(ValueError):
    """The model cannot be compared with the reference; the message says why."""


def check_reference(reference: Trace, config: Mapping[str, Any]) -> None:
    """Check that a trace is of a model of this size, and holds the variables that the comparison needs.

    Args:
        reference: a run of the healthy model.
        config: published keys of the audited model.

    Raises:
        UnusableReferenceError: the trace is of another model, has interventions, or lacks a variable.
    """
    if missing := [name for name in NEEDED if not reference.has(name)]:
        raise UnusableReferenceError(
            f"the reference does not hold {', '.join(missing)}; record it with --capture router"
        )
    if reference.interventions:
        raise UnusableReferenceError("the reference was run with interventions; record a plain run")
    sizes = {"num_hidden_layers": reference.data.sizes["layer"], "n_routed_experts": reference.data.sizes["expert"]}
    sizes["vocab_size"] = reference.config.get("vocab_size", config.get("vocab_size"))
    for key, size in sizes.items():
        if size != config.get(key):
            raise UnusableReferenceError(
                f"the reference is of a model with {key} {size}, this one has {config.get(key)}"
            )
    for name in NEEDED:
        if not np.isfinite(reference.data[name].values).all():
            raise UnusableReferenceError(f"the reference itself holds NaN or infinity in {name}; record a healthy run")


@dataclasses.dataclass(frozen=True, slots=True)
class Audited:
    """What the comparison needs from the audited model in addition to its run."""

    encode: chain.Encode = lambda: None
    exchange: RunExchanged | None = None  # None: the weights are not in memory
    in_16_bits: bool = False  # both runs computed in 16 bits
    in_fp8: bool = False  # the weights are stored in FP8


def compare_with(reference: Trace, ours: Trace, audited: Audited) -> Iterator[Finding]:
    """Yield the findings on the differences between two runs of the same tokens.

    Args:
        reference: run of the healthy model.
        ours: run of the audited model.
        audited: the audited model.
    """
    links = chain_of(reference, ours)
    tolerance = tolerance_of(links, audited.in_16_bits, audited.in_fp8)
    if tolerance.is_rounded:
        yield chain.rounding(links)
    scale = list(_scale(reference, ours, tolerance))
    stated = [] if scale else list(chain.configuration(reference, ours))
    before = [*chain.tokens(reference, ours, audited.encode), *stated, *scale, *compare_biases(reference, ours)]
    moved = {finding.layer for finding in before if "bias of layer" in finding.evidence}
    permuted = [finding for finding in _columns(reference, ours) if finding.layer not in moved]
    place = first_difference(reference, ours, links, tolerance)
    first = None if place is None else links[place].layer
    settled = [_harmless(f) if _without_effect(f, first) else f for f in (*before, *permuted)]
    yield from settled
    explained = [finding.layer for finding in settled if finding.severity != NOTE]
    if place is None:
        if not explained:
            yield from chain.head(reference, ours, tolerance) or [_same(reference, ours)]
    elif None not in explained and all(layer > links[place].layer for layer in explained if layer is not None):
        blamed = chain.blame(reference, ours, links, place, tolerance)
        yield from blamed or _experts(ours, links, place, tolerance, _Trial(reference, audited.exchange, place, links))


def other_routing(reference: Trace, config: Mapping[str, Any]) -> list[Finding]:
    """Return the findings on settings under which the runs cannot be compared token by token."""
    stated = {key: reference.config.get(key, config.get(key)) for key in ("n_group", "num_experts_per_tok")}
    meaning = "The router selects otherwise from the first MoE layer on; nothing after it was compared."
    return [
        Finding(
            ERROR, NAME, f"config.json states {key} {config.get(key)}, the reference was run with {value}", meaning,
            {"stated": str(config.get(key)), "reference": str(value)},
        )
        for key, value in stated.items() if value != config.get(key)
    ]  # fmt: skip


def _same(reference: Trace, ours: Trace) -> Finding:
    what = "the model routes these tokens as the reference does, and predicts the same"
    gap = float(np.abs(ours.data["router_score"].values - reference.data["router_score"].values).max())
    evidence = {"largest difference of affinities": gap, "tokens": ours.num_tokens}
    return Finding(NOTE, NAME, what, "No part that these tokens use was changed.", evidence)


def _without_effect(finding: Finding, first: int | None) -> bool:
    """Whether a finding reports reordered experts in a layer whose output equals the reference's."""
    moved = "in another order" in finding.what or "are permuted" in finding.what
    return moved and finding.layer is not None and (first is None or finding.layer < first)


def _harmless(finding: Finding) -> Finding:
    meaning = "Experts were renumbered, and router rows, biases and weights moved along: the results are the same."
    return dataclasses.replace(finding, severity=NOTE, meaning=meaning)


# --- scaling factor --------------------------------------------------------------------------------------------------


def _scale(reference: Trace, ours: Trace, tolerance: Tolerance) -> Iterator[Finding]:
    was, now = _fitted_scale(reference), _fitted_scale(ours)
    if was and now and abs(now / was - 1) > tolerance.factor:
        what = (
            f"the gate weights are {now / was:.4g} times the reference's: scaling factor {now:.4g} in place of "
            f"{was:.4g}"
        )
        meaning = (
            "routed_scaling_factor was changed or left out; the output of every routed expert is off by that factor."
        )
        yield Finding(ERROR, NAME, what, meaning, {"factor": now, "reference": was, "ratio": now / was})


def _fitted_scale(trace: Trace) -> float | None:
    """Return the median scaling factor of the gate weights in the first MoE layer; None unless positive and finite."""
    first = trace.data.isel(moe_layer=0)
    weights = first["gate_weight"].values.astype(np.float64)
    scores = np.take_along_axis(first["router_score"].values, first["expert_id"].values.astype(np.int64), -1)
    rule = rule_of(trace)
    rule = dataclasses.replace(rule, normalise_weights=rule.normalise_weights is not False)
    with np.errstate(all="ignore"):
        factor = float(np.median(weights / rule.shares(scores)))
    return factor if np.isfinite(factor) and factor > 0 else None


# --- the router's rows -----------------------------------------------------------------------------------------------


def _columns(reference: Trace, ours: Trace) -> Iterator[Finding]:
    """Yield a finding for each layer in which an expert's affinities fit a wrong expert of the reference.

    The affinities must fit the wrong expert clearly better than the expert with the same number; the module docstring
    has the threshold.
    """
    groups = ours.data.sizes.get("group", 1)
    for index, layer in enumerate(ours.data["moe_layer"].values.tolist()):
        was, now = (_standardised(t.data["router_score"].values[:, index]) for t in (reference, ours))
        agreement = now.T @ was / len(now)
        best, own = agreement.argmax(1), agreement.diagonal()
        fit = agreement[np.arange(len(best)), best]
        moved = np.flatnonzero((fit >= FITS) & (fit >= own + BETTER) & (best != np.arange(len(best))))
        if not len(moved):
            continue
        size = len(best) // groups
        crossing = int((moved // size != best[moved] // size).sum())
        pairs = ", ".join(f"E{expert} has that of E{best[expert]}" for expert in moved[:_NAMED].tolist())
        more = f" and {len(moved) - _NAMED} more" if len(moved) > _NAMED else ""
        where = f", {crossing} of them across groups" if crossing else ", within their groups" if groups > 1 else ""
        what = f"L{layer}: {len(moved)} router rows are permuted{where}: {pairs}{more}"
        meaning = (
            "Experts were renumbered in the router. Unless bias and weights were moved along, tokens reach experts "
            "that were not trained for them; rows that moved across groups also change which groups are kept."
        )
        evidence = {"rows": len(moved), "across groups": crossing, "lowest correlation": float(fit[moved].min())}
        yield Finding(ERROR, NAME, what, meaning, evidence, layer, int(moved[0]))


def _standardised(scores_TE: np.ndarray) -> np.ndarray:
    centred = scores_TE.astype(np.float64) - scores_TE.mean(0)
    spread = centred.std(0)
    return centred / np.where(spread > 1e-9, spread, np.inf)


# --- the experts -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class _Trial:
    """Runs the reference's tokens with exchanged weights, and tells whether this restores the reference's numbers."""

    reference: Trace
    run: RunExchanged | None
    place: int
    links: Sequence[Link]

    def restores(self, exchange: Exchange) -> bool:
        if self.run is None:
            return False
        link = self.links[self.place]
        index = self.reference.data["layer"].values.tolist().index(link.layer)
        now, was = self.run(link.layer, exchange)[:, index], self.reference.data["residual_norm"].values[:, index]
        left, found = relative_gaps(was, now), float(link.gaps_T.max())
        return bool(left.max() <= min(found, 1.0) / 30)


def _experts(ours: Trace, links: Sequence[Link], place: int, tolerance: Tolerance, trial: _Trial) -> Iterator[Finding]:
    """Find the changed experts of the first differing layer, from the tokens whose residual stream changed there."""
    layer, changed_T = links[place].layer, changed_tokens(links, place, tolerance)
    evidence = {"tokens that differ": int(changed_T.sum()), "of": len(changed_T)}
    meaning = "Its weights differ from the reference's: another step, another model, or damage."
    took_TE = one_hot(ours.data["expert_id"].sel(moe_layer=[layer]), ours.data.sizes["expert"])[:, 0]
    suspects = np.flatnonzero(took_TE[changed_T].any(0) & ~took_TE[~changed_T].any(0)).tolist()
    is_few = bool((~changed_T).any()) and bool(took_TE[changed_T][:, suspects].any(1).all())
    if not is_few or len(suspects) > _NAMED:
        yield _whole_block(layer, changed_T, evidence, trial)
        return
    for one in suspects[:_NAMED]:
        if trial.restores(Exchange(halves=(one,))):
            what = f"L{layer}E{one}: gate_proj and up_proj are swapped{_RESTORED}"
            yield Finding(ERROR, NAME, what, "A fused matrix was split in the other order.", evidence, layer, one)
            return
    for order in orders(suspects):
        if trial.restores(Exchange(moved=order)):
            named = [f"E{expert}" for expert in order]
            how = "swapped" if len(named) == 2 else "in another order"
            what = f"L{layer}: experts {', '.join(named[:-1])} and {named[-1]} are {how}{_RESTORED}"
            swapped = "Their weights were written in each other's place; the router sends each the other's tokens."
            one, other, *_ = order
            yield Finding(ERROR, NAME, what, swapped, evidence | {"other expert": other}, layer, one)
            return
    named = ", ".join(f"E{expert}" for expert in suspects[:_NAMED])
    experts = f"expert {named} gives" if len(suspects) == 1 else f"experts {named} give"
    what = f"L{layer}: {experts} other outputs than in the reference; the router selects alike"
    yield Finding(ERROR, NAME, what, meaning, evidence | {"experts": len(suspects)}, layer, suspects[0])


def _whole_block(layer: int, changed_T: np.ndarray, evidence: Mapping[str, Any], trial: _Trial) -> Finding:
    """Return the finding on a layer in which no small set of experts explains the tokens that differ."""
    num_experts = trial.reference.data.sizes["expert"]
    both = tuple(range(num_experts))
    for whose, exchange in (
        ("the shared expert", Exchange(shared_halves=True)),
        ("all routed experts", Exchange(halves=both)),
        ("all experts", Exchange(halves=both, shared_halves=True)),
    ):
        if trial.restores(exchange):
            what = f"L{layer}: gate_proj and up_proj of {whose} are swapped{_RESTORED}"
            meaning = "Fused matrices were split in the other order."
            return Finding(ERROR, NAME, what, meaning, evidence, layer)
    what = (
        f"L{layer}: the shared expert or more than {_NAMED} routed experts give other outputs than in the reference, "
        f"for {changed_T.mean():.0%} of the tokens; the router selects alike"
    )
    meaning = (
        "Weights of the layer's experts differ from the reference's, or stand in another order; attention does not."
    )
    return Finding(ERROR, NAME, what, meaning, evidence, layer)
