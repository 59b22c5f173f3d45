"""Compares two runs of the same tokens link by link, in the order of computation, and names the first difference.

The links are tokens, configuration, embedding, then in each layer attention, router rows and experts, and last the
head. A change of attention shows in the affinities, because the router reads the output of attention. A change of the
experts shows in the residual norms.

Thresholds: norms and affinities count as equal up to 1e-3, and log-probabilities up to 0.02 nats, because two machines
differ by rounding in fp32.

Shape suffixes: T tokens, L layers, E experts.
"""

from collections.abc import Iterator

import numpy as np

from model.doctor.findings import ERROR, Finding, Number
from model.trace.trace import Trace

NAME = "reference"
SAME, SAME_NATS = 1e-3, 0.02
_SMALLEST_CHANGE = 3e-6  # smallest relative change of an fp32 norm that is more than rounding
# Keys that change no number of a run.
_BOOKKEEPING = {"torch_dtype", "dtype", "max_position_embeddings", "architectures", "transformers_version"}


def tokens(reference: Trace, ours: Trace) -> Iterator[Finding]:
    """Yield a finding if ids stand for other text in the audited model's vocabulary than in the reference's."""
    pairs = [
        (one, other) for one, other in zip(reference.tokens, ours.tokens, strict=True) if one.piece and other.piece
    ]
    apart = [(one, other) for one, other in pairs if one.piece != other.piece]
    if apart:
        one, other = apart[0]
        what = (
            f"{len(apart)} of {len(pairs)} tokens have another text: id {one.id} is {other.piece!r}, was {one.piece!r}"
        )
        meaning = "The tokenizer is another model's, or its entries were reordered: the model reads other words."
        yield Finding(ERROR, NAME, what, meaning, {"tokens": len(apart), "of": len(pairs)})


def configuration(reference: Trace, ours: Trace) -> Iterator[Finding]:
    """Yield a finding for each key whose value differs between the two configurations."""
    for key in sorted((reference.config.keys() & ours.config.keys()) - _BOOKKEEPING):
        was, now = reference.config[key], ours.config[key]
        if was != now and was == was and now == now:  # NaN states nothing
            what = f"config.json states {key} {_short(now)}, the reference was run with {_short(was)}"
            meaning = "The numbers differ from there on, whatever the weights are."
            yield Finding(ERROR, NAME, what, meaning, {"stated": _short(now), "reference": _short(was)})


def _short(value: object) -> Number:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)[:80]


def gaps(reference: Trace, norms: np.ndarray) -> np.ndarray:
    """Return the relative difference between `norms` and the reference's residual norms, [token, layer].

    The difference is infinite if one of the two norms is NaN.
    """
    was = reference.data["residual_norm"].values.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(norms - was) / np.maximum(np.abs(was), 1e-9)
    return np.nan_to_num(apart, nan=np.inf, posinf=np.inf)


def floor(reference: Trace, ours: Trace, place: int) -> float:
    """Return the largest relative difference of norms that still counts as rounding in the layer at index `place`.

    This limit is ten times the largest difference in the layers before, within fixed bounds.
    """
    before = gaps(reference, ours.data["residual_norm"].values)[:, :place]
    return min(SAME / 10, max(_SMALLEST_CHANGE, 10 * float(before.max(initial=0.0))))


def first_difference(reference: Trace, ours: Trace) -> int | None:
    """Return the model layer number of the first layer after which the residual norms differ; None if none differ."""
    different = np.flatnonzero((gaps(reference, ours.data["residual_norm"].values) > SAME).any(0))
    return int(ours.data["layer"].values[different[0]]) if len(different) else None


def blame(reference: Trace, ours: Trace, layer: int) -> list[Finding]:
    """Return a finding if embedding, attention or router rows are the first link that differs; else an empty list.

    Args:
        reference: run of the healthy model.
        ours: run of the audited model.
        layer: the first layer after which the residual norms differ.
    """
    place = ours.data["layer"].values.tolist().index(layer)
    changed_T = gaps(reference, ours.data["residual_norm"].values)[:, place] > floor(reference, ours, place)
    evidence: dict[str, Number] = {"tokens that differ": int(changed_T.sum()), "of": len(changed_T)}
    first = int(changed_T.argmax())
    if place == 0 and first > 0:  # attention and feed-forward block would change the tokens before it, too
        token = ours.tokens[first]
        what = f"L{layer} differs from token {first} on: the embedding of id {token.id} is another"
        meaning = "A row of the embedding differs from the reference's: damage, or tokens that were added or reordered."
        return [Finding(ERROR, NAME, what, meaning, evidence | {"token id": token.id}, layer)]
    moe_layers = ours.data["moe_layer"].values.tolist()
    if layer not in moe_layers:
        return []
    was, now = (t.data["router_score"].values[:, moe_layers.index(layer)].astype(np.float64) for t in (reference, ours))
    with np.errstate(invalid="ignore"):
        apart_E = np.nan_to_num(np.abs(now - was), nan=np.inf).max(0) > SAME / 10
    if apart_E.mean() > 0.5:
        what = f"L{layer}: the router's input differs, so that {int(apart_E.sum())} of {len(apart_E)} affinities do"
        meaning = (
            "Attention of this layer, or a norm before the router, differs from the reference's; the layers before it "
            "do not. The experts are not to blame for it."
        )
        return [Finding(ERROR, NAME, what, meaning, evidence | {"affinities": int(apart_E.sum())}, layer)]
    if apart_E.any():
        expert = int(apart_E.argmax())
        what = f"L{layer}: {int(apart_E.sum())} router rows give other affinities, the first is that of E{expert}"
        meaning = "These rows of the router differ from the reference's; its input and the other rows do not."
        return [Finding(ERROR, NAME, what, meaning, evidence | {"rows": int(apart_E.sum())}, layer, expert)]
    return []


def head(reference: Trace, ours: Trace) -> list[Finding]:
    """Return a finding if log-probabilities differ although all layers agree: the final norm or the head differs."""
    apart = 0.0
    for name in ("logprob", "candidate_logprob"):
        if reference.has(name) and ours.has(name):
            was, now = (trace.data[name].values.astype(np.float64) for trace in (reference, ours))
            shared = min(was.shape[-1], now.shape[-1])
            known = np.isfinite(was[..., :shared]) & ~np.isneginf(was[..., :shared])
            with np.errstate(invalid="ignore"):
                gap = np.nan_to_num(np.abs(now[..., :shared] - was[..., :shared]), nan=np.inf, posinf=np.inf)
            apart = max(apart, float(gap[known].max(initial=0.0)))
    if apart <= SAME_NATS:
        return []
    what = f"all layers agree with the reference, log-probabilities differ by up to {apart:.3g} nats"
    meaning = "The final norm or the head (lm_head) differs from the reference's: every prediction does."
    return [Finding(ERROR, NAME, what, meaning, {"largest difference": apart, "tokens": ours.num_tokens})]
