"""Compares a model with a healthy trace of the same tokens, and locates the change by the first layer that differs.

Before the first change both runs are equal up to rounding, so the comparison uses every recorded number: biases,
columns of affinities (one per expert), the scaling factor of the gate weights, and the residual norm of each token.
After the first change the inputs of the layers differ; there the comparison reports only changed biases, and columns of
affinities that fit another expert of the reference far better than their own.

Thresholds: numbers count as equal up to 1e-3, because two machines differ by rounding in fp32. A column belongs to
another expert if its correlation with that expert's column is at least 0.8, and 0.3 more than with its own.

Shape suffixes: T tokens, E experts.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from model.doctor import chain
from model.doctor.findings import ERROR, NOTE, WARNING, Finding
from model.trace.observed_rule import rule_of
from model.trace.routing import one_hot
from model.trace.trace import Trace

NAME = chain.NAME
SAME, FITS, BETTER = chain.SAME, 0.8, 0.3
NEEDED = ("router_score", "expert_bias", "expert_id", "gate_weight", "residual_norm")
_NAMED = 6  # most experts that a finding names

# (layer, expert, other expert) -> residual norms, [token, layer], of a run of the reference's tokens with the weights
# of the two experts exchanged. If both are the same expert, its gate and up projections are exchanged.
Exchange = Callable[[int, int, int], np.ndarray]


class UnusableReferenceError(ValueError):
    """The model cannot be compared with the reference; the message says why."""


def check_reference(reference: Trace, config: dict) -> None:
    """Check that a trace is of the same model, and holds the variables that the comparison needs.

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
    stated = reference.config
    for key in ("num_hidden_layers", "n_routed_experts", "vocab_size", "n_group", "num_experts_per_tok"):
        if key in stated and stated[key] != config.get(key):
            raise UnusableReferenceError(
                f"the reference is of a model with {key} {stated[key]}, this one has {config.get(key)}"
            )


def compare_with(reference: Trace, ours: Trace, exchange: Exchange | None) -> Iterator[Finding]:
    """Yield the findings on the differences between two runs of the same tokens.

    Args:
        reference: run of the healthy model.
        ours: run of the audited model.
        exchange: function that runs the tokens with two experts exchanged; None if the weights are not in memory.
    """
    scale = list(_scale(reference, ours))
    stated = [] if scale else list(chain.configuration(reference, ours))
    before = [*chain.tokens(reference, ours), *stated, *scale, *_biases(reference, ours)]
    permuted = list(_columns(reference, ours))
    first = chain.first_difference(reference, ours)
    settled = [_harmless(f) if _without_effect(f, first) else f for f in (*before, *permuted)]
    yield from settled
    explained = [finding.layer for finding in settled if finding.severity != NOTE]
    if first is None:
        if not explained:
            yield from chain.head(reference, ours) or [_same(reference, ours)]
        return
    if None not in explained and all(layer > first for layer in explained if layer is not None):
        yield from chain.blame(reference, ours, first) or _experts(reference, ours, first, exchange)


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


def _scale(reference: Trace, ours: Trace) -> Iterator[Finding]:
    was, now = _fitted_scale(reference), _fitted_scale(ours)
    if was and now and abs(now / was - 1) > SAME:
        what = f"the weights are {now / was:.4g} times the reference's: scaling factor {now:.4g} in place of {was:.4g}"
        meaning = (
            "routed_scaling_factor was changed or left out; the output of every routed expert is off by that factor."
        )
        yield Finding(ERROR, NAME, what, meaning, {"factor": now, "reference": was, "ratio": now / was})


def _fitted_scale(trace: Trace) -> float | None:
    """Return the scaling factor of the gate weights in the first MoE layer, a median; None if no factor fits."""
    first = trace.data.isel(moe_layer=0)
    weights = first["gate_weight"].values.astype(np.float64)
    scores = np.take_along_axis(first["router_score"].values, first["expert_id"].values.astype(np.int64), -1)
    rule = rule_of(trace)
    rule = dataclasses.replace(rule, normalise_weights=rule.normalise_weights is not False)
    with np.errstate(all="ignore"):
        factor = float(np.median(weights / rule.shares(scores)))
    return factor if np.isfinite(factor) and factor > 0 else None


# --- bias ------------------------------------------------------------------------------------------------------------


def _biases(reference: Trace, ours: Trace) -> Iterator[Finding]:
    was, now = (trace.data["expert_bias"].values.astype(np.float64) for trace in (reference, ours))
    layers = ours.data["moe_layer"].values.tolist()
    for index, layer in enumerate(layers):
        apart = now[index] - was[index]
        if np.abs(apart).max() < 1e-6:
            continue
        evidence = {"largest difference": float(np.abs(apart).max()), "experts": int((np.abs(apart) > 1e-6).sum())}
        relative = now[index] - now[index].mean()
        fits = [float(np.abs(relative - (other - other.mean())).max()) for other in was]
        other = int(np.argmin(fits))
        if np.ptp(apart) < 1e-6:
            what = f"L{layer}: every bias lies {apart.mean():+.3g} from the reference's"
            yield Finding(NOTE, NAME, what, "An offset that all share moves no selection.", evidence, layer)
        elif other != index and fits[other] < 1e-5:
            what = f"L{layer} carries the bias of L{layers[other]}"
            meaning = (
                "Layers had other numbers when the biases were written; each bias balances the load of another expert."
            )
            yield Finding(ERROR, NAME, what, meaning, evidence | {"bias of layer": layers[other]}, layer)
        elif np.allclose(np.sort(now[index]), np.sort(was[index]), atol=1e-6):
            moved = int((np.abs(apart) > 1e-6).sum())
            what = f"L{layer}: the biases are the reference's in another order, {moved} experts have another's"
            meaning = "Experts were renumbered; correct only if router rows and weights were renumbered, too."
            yield Finding(WARNING, NAME, what, meaning, evidence, layer)
        else:
            expert = int(np.abs(apart).argmax())
            number = evidence["experts"]
            what = f"L{layer}: {number} biases differ from the reference's, that of E{expert} by {apart[expert]:+.3g}"
            meaning = "The bias was changed or rounded, or belongs to another training step."
            yield Finding(ERROR, NAME, what, meaning, evidence, layer, expert)


# --- the router's rows -----------------------------------------------------------------------------------------------


def _columns(reference: Trace, ours: Trace) -> Iterator[Finding]:
    """Yield a finding for each layer with affinities that fit other experts of the reference better than their own."""
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
            "that were not trained for them; across groups the group limit changes, too."
        )
        evidence = {"rows": len(moved), "across groups": crossing, "lowest correlation": float(fit[moved].min())}
        yield Finding(ERROR, NAME, what, meaning, evidence, layer, int(moved[0]))


def _standardised(scores_TE: np.ndarray) -> np.ndarray:
    centred = scores_TE.astype(np.float64) - scores_TE.mean(0)
    spread = centred.std(0)
    return centred / np.where(spread > 1e-9, spread, np.inf)


# --- the experts -----------------------------------------------------------------------------------------------------


def _experts(reference: Trace, ours: Trace, layer: int, exchange: Exchange | None) -> Iterator[Finding]:
    """Yield the finding on the first layer that differs, with its changed experts.

    Changed experts are found from the tokens whose residual stream changed in this layer.
    """
    index = ours.data["layer"].values.tolist().index(layer)
    limit = chain.floor(reference, ours, index)
    changed_T = chain.gaps(reference, ours.data["residual_norm"].values)[:, index] > limit
    evidence = {"tokens that differ": int(changed_T.sum()), "of": len(changed_T)}
    meaning = "Its weights differ from the reference's: another step, another model, or damage."
    if layer not in ours.data["moe_layer"].values:
        what = f"L{layer} computes something else than in the reference, the layers before it do not"
        yield Finding(ERROR, NAME, what, meaning, evidence, layer)
        return
    took_TE = one_hot(ours.data["expert_id"].sel(moe_layer=[layer]), ours.data.sizes["expert"])[:, 0]
    suspects = np.flatnonzero(took_TE[changed_T].any(0) & ~took_TE[~changed_T].any(0)).tolist()
    if not (~changed_T).any() or not took_TE[changed_T][:, suspects].any(1).all():
        what = (
            f"L{layer} routes as in the reference and computes something else, for {changed_T.mean():.0%} of the tokens"
        )
        yield Finding(ERROR, NAME, what, f"No small set of experts explains it. {meaning}", evidence, layer)
        return
    for one in suspects[:_NAMED]:
        if exchange is not None and _restores(reference, exchange(layer, one, one), index):
            what = (
                f"L{layer}E{one}: gate_proj and up_proj are swapped; exchanged back, the reference's numbers come out"
            )
            yield Finding(ERROR, NAME, what, "A fused matrix was split in the other order.", evidence, layer, one)
            return
    for one, other in _pairs(suspects):
        if exchange is not None and _restores(reference, exchange(layer, one, other), index):
            what = (
                f"L{layer}: experts E{one} and E{other} are swapped; exchanged back, the reference's numbers come out"
            )
            swapped = "Their weights were written in each other's place; the router sends each the other's tokens."
            yield Finding(ERROR, NAME, what, swapped, evidence | {"other expert": other}, layer, one)
            return
    named = ", ".join(f"E{expert}" for expert in suspects[:_NAMED])
    what = f"L{layer}: experts {named} give other outputs than in the reference; the router selects alike"
    yield Finding(ERROR, NAME, what, meaning, evidence | {"experts": len(suspects)}, layer, suspects[0])


def _restores(reference: Trace, norms: np.ndarray, place: int) -> bool:
    return bool((chain.gaps(reference, norms)[:, place] <= SAME / 10).all())


def _pairs(suspects: list[int]) -> Iterator[tuple[int, int]]:
    """Yield all pairs among the first `_NAMED` suspects."""
    few = suspects[:_NAMED]
    yield from ((one, other) for index, one in enumerate(few) for other in few[index + 1 :])
