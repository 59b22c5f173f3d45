"""Names the first part that differs between two runs: tokens, configuration, embedding, attention, router or head.

`links` compares the recorded norms, `reference` the biases, the affinities and the experts. The text that a finding
quotes comes from a vocabulary, never from a prompt.

Shape suffixes: T tokens, E experts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from model.doctor.findings import ERROR, NOTE, Finding, Number
from model.doctor.links import ATTENTION, EMBEDDING, Link, Tolerance, changed_tokens, same_experts
from model.trace.trace import Trace

NAME = "reference"
# Keys that affect no number that a run of given token ids computes.
_BOOKKEEPING = {
    "torch_dtype", "dtype", "max_position_embeddings", "architectures", "transformers_version", "tie_word_embeddings",
    "num_nextn_predict_layers", "mtp_reads_normed", "num_key_value_heads", "use_cache", "eos_token_id",
}  # fmt: skip
_SCALED = 1e-3  # norms count as scaled by one factor if their ratios spread at most this far

Encode = Callable[[], Sequence[int] | None]  # the ids of the reference's prompt by the audited tokenizer; None: no text


def tokens(reference: Trace, ours: Trace, encode: Encode) -> Iterator[Finding]:
    """Yield a finding if the audited tokenizer differs from the reference's tokenizer.

    It differs if it gives other text to the reference's ids, or other ids to the reference's prompt.
    """
    meaning = "The tokenizer is another model's, or its entries were reordered: the model reads other words."
    known = any(token.piece for token in ours.tokens)
    pairs = [(one, other) for one, other in zip(reference.tokens, ours.tokens, strict=True) if one.piece and known]
    apart = [(one, other) for one, other in pairs if one.piece != other.piece]
    if apart:
        one, other = apart[0]
        now = repr(other.piece) if other.piece else "unknown"
        what = f"{len(apart)} of {len(pairs)} tokens have another text: id {one.id} is {now}, was {one.piece!r}"
        yield Finding(ERROR, NAME, what, meaning, {"tokens": len(apart), "of": len(pairs)})
        return
    now, was = encode(), [token.id for token in reference.tokens if not token.generated]
    if now is not None and list(now) != was:
        place = next((i for i, (a, b) in enumerate(zip(now, was, strict=False)) if a != b), min(len(now), len(was)))
        ids = [str(ids[place]) if place < len(ids) else "the end" for ids in (now, was)]
        what = f"the reference's text has other token ids: token {place} is {ids[0]}, was {ids[1]}"
        yield Finding(ERROR, NAME, what, meaning, {"tokens": len(now), "reference": len(was), "first": place})


def configuration(reference: Trace, ours: Trace) -> Iterator[Finding]:
    """Yield a finding for each key whose value differs between the configurations of the reference and of our model."""
    for key in sorted((reference.config.keys() & ours.config.keys()) - _BOOKKEEPING):
        was, now = reference.config[key], ours.config[key]
        if was != now and was == was and now == now:  # NaN states nothing
            named, now, was = _first_unlike(key, now, was)
            what = f"config.json states {named} {_short(now)}, the reference was run with {_short(was)}"
            meaning = "Every number that depends on this setting differs, whatever the weights are."
            if key == "bos_token_id":
                meaning = (
                    "Texts begin with another token than in the reference. The other checks here are not affected: "
                    "they ran the reference's own token ids."
                )
            yield Finding(ERROR, NAME, what, meaning, {"stated": _short(now), "reference": _short(was)})


def _first_unlike(key: str, now: Any, was: Any) -> tuple[str, Any, Any]:
    """Return the key and both values; if both are objects, the key and values of the first entry that differs."""
    if isinstance(now, Mapping) and isinstance(was, Mapping):
        inner = next(inner for inner in sorted({*now, *was}, key=str) if now.get(inner) != was.get(inner))
        return f"{key}.{inner}", now.get(inner), was.get(inner)
    return key, now, was


def _short(value: object) -> Number:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)[:80]


def rounding(links: Sequence[Link]) -> Finding:
    """Return the note on two runs whose numbers all differ slightly from the start."""
    first = next(link for link in links if link.gaps_T.any())
    gap = float(np.median(first.gaps_T))
    what = f"all numbers differ slightly from the start, as by rounding to a narrower format (median {gap:.1g})"
    meaning = "Weights or arithmetic have fewer bits than in the reference. Small faults cannot be told from rounding."
    return Finding(NOTE, NAME, what, meaning, {"median difference": gap, "tokens": len(first.gaps_T)})


def blame(reference: Trace, ours: Trace, links: Sequence[Link], place: int, tolerance: Tolerance) -> list[Finding]:
    """Return the finding on the embedding, attention, a dense block or a router; empty if experts are to blame.

    Args:
        reference: run of the healthy model.
        ours: run of the audited model.
        links: see `links.chain_of`.
        place: index in `links` of the first link that differs.
        tolerance: see `links.tolerance_of`.
    """
    link, changed_T = links[place], changed_tokens(links, place, tolerance)
    evidence: dict[str, Number] = {"tokens that differ": int(changed_T.sum()), "of": len(changed_T)}
    first = int(changed_T.argmax())
    has_attention = any(other.kind == ATTENTION for other in links)
    in_first_layer = link.layer == links[0].layer
    if link.kind == EMBEDDING:
        return [_embedding(reference, ours, changed_T, evidence)]
    # Attention and feed-forward block change the first tokens, too; queries and keys all tokens but the first.
    if in_first_layer and first > 1 and (link.kind == ATTENTION or not has_attention):
        return [_embedding(reference, ours, np.arange(len(changed_T)) == first, evidence)]
    if link.kind == ATTENTION:
        return [_attention(link.layer, changed_T, evidence)]
    if link.layer in ours.data["moe_layer"].values:
        return _router(reference, ours, link, tolerance, has_attention, evidence)
    parts = "feed-forward block" if has_attention else "embedding, attention or feed-forward block"
    before = "its attention does not" if has_attention else "the layers before it do not"
    what = f"L{link.layer}: the {parts if has_attention or in_first_layer else 'attention or feed-forward block'} "
    what += f"computes something else than in the reference, {before}"
    meaning = "Its weights differ from the reference's: another step, another model, or damage."
    return [Finding(ERROR, NAME, what, meaning, evidence, link.layer)]


def _embedding(reference: Trace, ours: Trace, changed_T: np.ndarray, evidence: dict[str, Number]) -> Finding:
    layer = int(ours.data["layer"].values[0])
    ids = sorted({token.id for token, is_changed in zip(ours.tokens, changed_T.tolist(), strict=True) if is_changed})
    used = len({token.id for token in ours.tokens})
    first = ours.tokens[int(changed_T.argmax())].id
    evidence = evidence | {"token id": first, "ids that differ": len(ids), "ids": used}
    what = f"L{layer} differs from token {int(changed_T.argmax())} on: the embedding of id {first} is another"
    meaning = "A row of the embedding differs from the reference's: damage, or tokens that were added or reordered."
    if len(ids) > 1:
        what = f"the embedding gives other vectors for {len(ids)} of {used} ids, the first is id {first}"
        meaning = (
            "Rows of the embedding differ from the reference's: damage, another order, or another model's embedding."
        )
        ratios = ours.data["embedding_norm"].values / reference.data["embedding_norm"].values
        if len(ids) == used and np.ptp(ratios) < _SCALED * np.abs(ratios).max():
            what = f"the embedding is {float(np.median(ratios)):.4g} times the reference's"
            meaning = "The embedding was scaled, or its scale was applied twice or left out."
    return Finding(ERROR, NAME, what, meaning, evidence, layer)


def _attention(layer: int, changed_T: np.ndarray, evidence: dict[str, Number]) -> Finding:
    what = f"L{layer}: attention computes something else than in the reference; the layers before it do not"
    meaning = "Values, output, or the norm before attention differ from the reference's; experts are not to blame."
    if not changed_T[0]:
        what = f"L{layer}: attention weighs other tokens than in the reference; the layers before it do not differ"
        meaning = "Queries, keys or the rotary settings differ: the first token, which reads itself only, is unchanged."
    return Finding(ERROR, NAME, what, meaning, evidence, layer)


def _router(
    reference: Trace,
    ours: Trace,
    link: Link,
    tolerance: Tolerance,
    has_attention: bool,
    evidence: dict[str, Number],
) -> list[Finding]:
    """Return the finding on a router whose affinities differ from the reference's; empty if they are equal."""
    layer, place = link.layer, ours.data["moe_layer"].values.tolist().index(link.layer)
    judged_T = same_experts(reference, ours, Link(ATTENTION, layer, link.gaps_T)) if tolerance.is_rounded else ...
    was, now = (t.data["router_score"].values[:, place].astype(np.float64)[judged_T] for t in (reference, ours))
    with np.errstate(invalid="ignore"):
        apart_E = np.nan_to_num(np.abs(now - was), nan=np.inf).max(0, initial=0.0) > tolerance.affinity
    number = int(apart_E.sum())
    if apart_E.mean() > 0.5 and has_attention:
        what = f"L{layer}: {number} of {len(apart_E)} affinities differ from the reference's; attention does not"
        meaning = "The router's rows, or the norm before them, differ from the reference's. Experts are not to blame."
        return [Finding(ERROR, NAME, what, meaning, evidence | {"affinities": number}, layer)]
    if apart_E.mean() > 0.5:
        what = f"L{layer}: the router's input differs, so that {number} of {len(apart_E)} affinities do"
        meaning = (
            "Attention of this layer, a norm or the router's rows differ from the reference's; the layers before it do "
            "not. The experts are not to blame for it."
        )
        return [Finding(ERROR, NAME, what, meaning, evidence | {"affinities": number}, layer)]
    if number:
        expert = int(apart_E.argmax())
        rows = "1 router row gives" if number == 1 else f"{number} router rows give"
        what = f"L{layer}: {rows} other affinities, the first is that of E{expert}"
        meaning = "These rows of the router differ from the reference's; its input and the other rows do not."
        return [Finding(ERROR, NAME, what, meaning, evidence | {"rows": number}, layer, expert)]
    return []


def head(reference: Trace, ours: Trace, tolerance: Tolerance) -> list[Finding]:
    """Return the finding on the final norm or head if log-probabilities differ; call it only if all layers agree."""
    apart = 0.0
    for name in ("logprob", "candidate_logprob"):
        if reference.has(name) and ours.has(name):
            was, now = (trace.data[name].values.astype(np.float64) for trace in (reference, ours))
            shared = min(was.shape[-1], now.shape[-1])
            known = np.isfinite(was[..., :shared]) & ~np.isneginf(was[..., :shared])
            with np.errstate(invalid="ignore"):
                gap = np.nan_to_num(np.abs(now[..., :shared] - was[..., :shared]), nan=np.inf, posinf=np.inf)
            gap = gap[known]
            apart = max(apart, float(np.median(gap) if tolerance.is_rounded and gap.size else gap.max(initial=0.0)))
    if apart <= tolerance.nats:
        return []
    what = f"all layers agree with the reference, log-probabilities differ by up to {apart:.3g} nats"
    whose = "the embedding, which is the head, too," if ours.config.get("tie_word_embeddings") else "the head (lm_head)"
    meaning = f"The final norm or {whose} differs from the reference's: every prediction does."
    return [Finding(ERROR, NAME, what, meaning, {"largest difference": apart, "tokens": ours.num_tokens})]
