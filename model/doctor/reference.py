"""A model against a healthy trace of the same tokens: what was changed, told by the first layer that differs.

Until the first change both runs are the same but for rounding, so there every recorded number can be compared: the bias
with that of every layer, the affinities' columns with each other, the weights' scaling factor, and what came out of the
layer token by token. Behind it the layers' inputs differ; there only biases and columns that fit another place far
better than their own are told.

Thresholds: numbers are the same up to 1e-3, as fp32 on two machines is; a column belongs elsewhere when it agrees there
with a correlation of 0.8 and 0.3 more than in its own place.

Shape suffixes: T tokens, E experts.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from model.doctor.findings import ERROR, NOTE, WARNING, Finding
from model.trace.observed_rule import rule_of
from model.trace.routing import one_hot
from model.trace.trace import Trace

NAME = "reference"
SAME, FITS, BETTER = 1e-3, 0.8, 0.3
NEEDED = ("router_score", "expert_bias", "expert_id", "gate_weight", "residual_norm")
_NAMED = 6  # pairs of experts that are written out

# Run the reference's tokens again with two experts of a layer exchanged, and give the residual norms, [token, layer].
Exchange = Callable[[int, int, int], np.ndarray]


class UnusableReferenceError(ValueError):
    """A reference that the model cannot be compared with; the message says why."""


def check_reference(reference: Trace, config: dict) -> None:
    """Refuse a trace of another model, or one that holds too little.

    Args:
        reference: a run on the healthy model.
        config: published keys of the model that is audited.

    Raises:
        UnusableReferenceError: the message says what does not fit.
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
    """What was changed between two runs of the same tokens.

    Args:
        reference: of the healthy model.
        ours: of the model that is audited.
        exchange: tries an exchange of two experts; None where the weights are not in memory.
    """
    before = [*_scale(reference, ours), *_biases(reference, ours)]
    permuted = list(_columns(reference, ours))
    yield from before
    yield from permuted
    explained = [found.layer for found in (*before, *permuted) if found.severity != NOTE]
    first = _first_difference(reference, ours)
    if first is None:
        if not explained:
            what = "the model routes these tokens as the reference does"
            gap = float(np.abs(ours.data["router_score"].values - reference.data["router_score"].values).max())
            evidence = {"largest difference of affinities": gap, "tokens": ours.num_tokens}
            yield Finding(NOTE, NAME, what, "Nothing that these tokens touch was changed.", evidence)
        return
    if None not in explained and all(layer > first for layer in explained if layer is not None):
        yield from _experts(reference, ours, first, exchange)


# --- scaling factor --------------------------------------------------------------------------------------------------


def _scale(reference: Trace, ours: Trace) -> Iterator[Finding]:
    was, now = _fitted_scale(reference), _fitted_scale(ours)
    if was and now and abs(now / was - 1) > SAME:
        what = f"the weights are {now / was:.4g} times the reference's: scaling factor {now:.4g} in place of {was:.4g}"
        meaning = (
            "routed_scaling_factor was changed or left out; every routed expert speaks louder or softer by that factor."
        )
        yield Finding(ERROR, NAME, what, meaning, {"factor": now, "reference": was, "ratio": now / was})


def _fitted_scale(trace: Trace) -> float | None:
    """The factor that turns affinities into weights, the median over tokens of the first mixture layer."""
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
    for place, layer in enumerate(layers):
        apart = now[place] - was[place]
        if np.abs(apart).max() < 1e-6:
            continue
        evidence = {"largest difference": float(np.abs(apart).max()), "experts": int((np.abs(apart) > 1e-6).sum())}
        relative = now[place] - now[place].mean()
        fits = [float(np.abs(relative - (other - other.mean())).max()) for other in was]
        other = int(np.argmin(fits))
        if np.ptp(apart) < 1e-6:
            what = f"L{layer}: every bias lies {apart.mean():+.3g} from the reference's"
            yield Finding(NOTE, NAME, what, "An offset that all share moves no selection.", evidence, layer)
        elif other != place and fits[other] < 1e-5:
            what = f"L{layer} carries the bias of L{layers[other]}"
            meaning = (
                "Layers were numbered otherwise when the biases were written; each expert is pushed for another's load."
            )
            yield Finding(ERROR, NAME, what, meaning, evidence | {"bias of layer": layers[other]}, layer)
        elif np.allclose(np.sort(now[place]), np.sort(was[place]), atol=1e-6):
            moved = int((np.abs(apart) > 1e-6).sum())
            what = f"L{layer}: the biases are the reference's in another order, {moved} experts have another's"
            meaning = "Experts were renumbered; right only if router rows and weights were, too."
            yield Finding(WARNING, NAME, what, meaning, evidence, layer)
        else:
            expert = int(np.abs(apart).argmax())
            number = evidence["experts"]
            what = f"L{layer}: {number} biases differ from the reference's, that of E{expert} by {apart[expert]:+.3g}"
            meaning = "The bias was changed, rounded, or is of another step of the training."
            yield Finding(ERROR, NAME, what, meaning, evidence, layer, expert)


# --- the router's rows -----------------------------------------------------------------------------------------------


def _columns(reference: Trace, ours: Trace) -> Iterator[Finding]:
    """Layers whose experts' affinities agree with those of other experts far better than with their own."""
    groups = ours.data.sizes.get("group", 1)
    for place, layer in enumerate(ours.data["moe_layer"].values.tolist()):
        was, now = (_standardised(t.data["router_score"].values[:, place]) for t in (reference, ours))
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


# --- what comes out --------------------------------------------------------------------------------------------------


def _gaps(reference: Trace, norms: np.ndarray) -> np.ndarray:
    """Relative difference of the residual norms, [token, layer]; infinite where one of them is NaN."""
    was = reference.data["residual_norm"].values.astype(np.float64)
    return np.nan_to_num(np.abs(norms - was) / np.maximum(np.abs(was), 1e-9), nan=np.inf, posinf=np.inf)


def _first_difference(reference: Trace, ours: Trace) -> int | None:
    """The first layer after which the residual stream is another one; None where none is."""
    gaps = _gaps(reference, ours.data["residual_norm"].values)
    different = np.flatnonzero((gaps > SAME).any(0))
    return int(ours.data["layer"].values[different[0]]) if len(different) else None


def _experts(reference: Trace, ours: Trace, layer: int, exchange: Exchange | None) -> Iterator[Finding]:
    """Which experts answer otherwise, told by which tokens' residual streams changed in the first such layer."""
    place = ours.data["layer"].values.tolist().index(layer)
    changed_T = _gaps(reference, ours.data["residual_norm"].values)[:, place] > SAME / 10
    evidence = {"tokens that differ": int(changed_T.sum()), "of": len(changed_T)}
    meaning = "Its weights are others than the reference's: another step, another model, or damage."
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
        yield Finding(ERROR, NAME, what, f"No few experts explain it. {meaning}", evidence, layer)
        return
    for one, other in _pairs(suspects):
        if exchange is not None and (_gaps(reference, exchange(layer, one, other))[:, place] <= SAME / 10).all():
            what = (
                f"L{layer}: experts E{one} and E{other} are swapped; exchanged back, the reference's numbers come out"
            )
            swapped = "Their weights were written in each other's place; the router sends each the other's tokens."
            yield Finding(ERROR, NAME, what, swapped, evidence | {"other expert": other}, layer, one)
            return
    named = ", ".join(f"E{expert}" for expert in suspects[:_NAMED])
    what = f"L{layer}: experts {named} answer otherwise than in the reference; the router chooses alike"
    yield Finding(ERROR, NAME, what, meaning, evidence | {"experts": len(suspects)}, layer, suspects[0])


def _pairs(suspects: list[int]) -> Iterator[tuple[int, int]]:
    """All pairs of a few suspects."""
    few = suspects[:_NAMED]
    yield from ((one, other) for place, one in enumerate(few) for other in few[place + 1 :])
