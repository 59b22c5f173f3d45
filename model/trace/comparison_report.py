"""Report a comparison of traces in sentences, and as plain values for JSON."""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from model.trace.comparison import CHANGE, FOLLOWS, NEAR_TIE, SAME, UNDECIDED, UNKNOWN, VERDICTS, Comparison
from model.trace.comparison_measures import measures
from model.trace.consistency import Fault
from model.trace.earlier import differs_before
from model.trace.imports.origin import notes
from model.trace.rollout import TAU
from model.trace.settings import about_settings, differing_settings
from model.trace.trace import Trace

_PARTS = (("text", "text"), ("model", "name"), ("model", "weights_sha256"), ("model", "tokenizer_sha256"),
          ("origin", "kind"), ("origin", "engine"), ("origin", "device"), ("origin", "dtype"),
          ("request", "interventions"))  # fmt: skip


def differing(comparison: Comparison) -> dict[str, tuple[Any, Any]]:
    """Return the entries of text, model, origin, request and settings that differ, as name -> (value in a, in b)."""
    stated = {}
    for part, name in _PARTS:
        traces = comparison.a, comparison.b
        values = tuple(trace.text if part == "text" else getattr(trace, part).get(name) for trace in traces)
        if (values[0] or None) != (values[1] or None):
            stated[name] = values
    return stated | differing_settings(comparison.a, comparison.b)


# --- words -----------------------------------------------------------------------------------------------------------


def verdict(comparison: Comparison) -> list[str]:
    """Return sentences on the comparison: first known causes of splits, then the answer, then the details."""
    causes = (_about_weights(comparison), about_settings(comparison.a, comparison.b), _about_shift(comparison))
    details = (_about_tokens(comparison), _about_numbers(comparison), _about_faults(comparison))
    return [*itertools.chain(*causes), _answer(comparison), *itertools.chain(*details)]


def _about_weights(comparison: Comparison) -> Iterator[str]:
    """Yield a sentence if checksums or recorded biases show that the traces were made with different weights."""
    checksums = {trace.model.get("weights_sha256") for trace in (comparison.a, comparison.b)} - {None}
    evidence = ["the checksums of their files differ"] if len(checksums) > 1 else []
    bias = comparison.layers["bias_difference"]
    if (bias > 0).any():
        layers = span(bias["moe_layer"].values[bias > 0])
        evidence.append(f"the experts' biases differ in {layers}, by up to {float(bias.max()):.2g}")
    if evidence:
        yield f"These are not the same weights: {', and '.join(evidence)}."


def _answer(comparison: Comparison) -> str:
    """Return the sentence on whether both traces route alike, and on the causes of the splits."""
    split, compared = int(comparison.is_split.sum()), comparison.num_compared
    if not compared:
        return "The traces do not hold the experts of their common tokens."
    if not split:
        same = "the same experts" if not comparison.renumbered else "the same experts under other numbers"
        return f"All {compared:,} choices took {same}."
    answer = f"{split:,} of {compared:,} choices ({_percent(split / compared)}) took other experts"
    kinds = {
        NEAR_TIE: f"by a near tie, which {comparison.dtype} rounding can reverse",
        CHANGE: _about_changes(comparison),
        FOLLOWS: "after an earlier difference, which may be the cause",
        UNDECIDED: "undecided, because neither trace holds the scores",
    }
    counted = [f"{comparison.count(kind):,} {words}" for kind, words in kinds.items() if comparison.count(kind)]
    return f"{answer}: {'; '.join(counted)}."


def _about_changes(comparison: Comparison) -> str:
    """Return a phrase on real changes: how many come after weights, norms or log-probabilities had already differed."""
    changes = comparison.choices["verdict"].values == CHANGE
    later = int((differs_before(comparison) & changes).sum())
    if not later:
        return "by a real change, with a wide margin and nothing different before it"
    before = "weights, residual norms or log-probabilities"
    how_many = "all" if later == changes.sum() else f"{later:,} of them"
    return f"by a real change, with a wide margin, {how_many} after {before} had differed"


def _about_shift(comparison: Comparison) -> Iterator[str]:
    """Yield a sentence on a shifted recording, if there is one; the report begins with it."""
    shift = comparison.shift
    if shift is not None:
        by = f"{abs(shift.tokens)} token{'' if abs(shift.tokens) == 1 else 's'}"
        yield (
            f"The recording looks shifted by {by}: {_percent(shift.agreement)} of the experts agree with those of B "
            f"{by} {'later' if shift.tokens > 0 else 'earlier'}, and {_percent(shift.as_placed)} with those at the "
            f"same token of B (n = {shift.compared:,} tokens)."
        )


def _about_tokens(comparison: Comparison) -> Iterator[str]:
    alignment, first = comparison.alignment, comparison.first_split
    split = first[first >= 0]
    if split.size:
        layers = comparison.choices["moe_layer"].values[split]
        values, counts = np.unique(layers, return_counts=True)
        at, number = int(values[counts.argmax()]), int(counts.max())
        yield (
            f"Of {len(first):,} aligned tokens, {split.size:,} split somewhere; the first split is most often in L{at} "
            f"({number:,} of {split.size:,})."
        )
    if alignment.only_a or alignment.only_b:
        yield (
            f"Not aligned: {len(alignment.only_a):,} of {comparison.a.num_tokens:,} tokens of A and "
            f"{len(alignment.only_b):,} of {comparison.b.num_tokens:,} of B (by {alignment.how})."
        )
    if alignment.unknown_ids:
        yield f"Aligned by position alone, because a trace lacks the token's id: {alignment.unknown_ids:,}."
    if comparison.count(UNKNOWN):
        yield f"Choices not compared, because a trace does not know all their experts: {comparison.count(UNKNOWN):,}."
    for side, layers in (("A", comparison.only_a), ("B", comparison.only_b)):
        if layers:
            yield f"Only {side} has the MoE layers {span(layers)}."


def _about_numbers(comparison: Comparison) -> Iterator[str]:
    weight = float(comparison.choices["weight_difference"].max())
    logprob = float(abs(comparison.choices["logprob_difference"]).max())
    if comparison.renumbered:
        yield _about_order(comparison)
    if weight == 0 and not logprob > 0 and not comparison.is_split.any():
        yield "All weights and log-probabilities that both traces hold are equal to the bit."
    if math.isnan(weight):
        yield "Weights cannot be compared: a trace does not hold them, or they have no common expert."
    elif weight > 0:
        mean = float(comparison.layers["weight_mean"].mean())
        yield f"Weights of common experts differ by up to {weight:.2g}, {mean:.2g} on average."
    if logprob > 0:
        mean = float(abs(comparison.choices["logprob_difference"]).mean())
        yield f"Log-probabilities of the tokens differ by up to {logprob:.2g} nats, {mean:.2g} on average."


def _about_order(comparison: Comparison) -> str:
    """Return the sentence on renumbered layers, with the evidence."""
    least = min(comparison.renumbered.values(), key=lambda renumbering: renumbering.explained)
    chance = max(renumbering.by_chance for renumbering in comparison.renumbered.values())
    return (
        f"Expert order differs in {span(comparison.renumbered)}: with B's experts renumbered, {least.basis} agree to "
        f"{_percent(least.explained)} or more ({_percent(least.as_numbered)} with B's own numbers; at most "
        f"{_percent(chance)} by chance). Everything here uses the renumbered B."
    )


def _about_faults(comparison: Comparison) -> Iterator[str]:
    for side, faults in (("A", comparison.faults_a), ("B", comparison.faults_b)):
        for fault in faults:
            yield (
                f"{side} contradicts itself in {span(fault.layers)}: {fault.kind} ({fault.decisions:,} of {fault.of:,} "
                f"choices; {fault.evidence}). This is no near tie."
            )


def span(layers: Any) -> str:
    """Return layer numbers as text: `L3`, `L3 to L9`, `L3, L5`.

    >>> span([3, 4, 5, 9])
    'L3 to L5, L9'
    """
    runs: list[list[int]] = []
    for layer in sorted(int(layer) for layer in layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(f"L{run[0]}" if len(run) == 1 else f"L{run[0]} to L{run[-1]}" for run in runs)


def _percent(share: float) -> str:
    """Return a share in per cent; only 0 and 1 themselves are written 0 % and 100 %.

    >>> _percent(0.9999), _percent(0.0), _percent(0.00001), _percent(0.125)
    ('> 99.9 %', '0 %', '< 0.1 %', '12.5 %')
    """
    if 0.999 < share < 1:
        return "> 99.9 %"
    return "< 0.1 %" if 0 < share < 0.001 else f"{100 * share:.3g} %"


# --- plain values ----------------------------------------------------------------------------------------------------


def to_json(comparison: Comparison, tau: float = TAU) -> dict[str, Any]:
    """Return the comparison as plain JSON values; unknown values are null. `tau` is that of `measures`."""
    alignment, stated = comparison.alignment, differing(comparison)
    return {
        "format": "moe-loupe-comparison",
        "version": 1,
        "a": _described(comparison.a),
        "b": _described(comparison.b),
        "differs": sorted(stated),
        "settings": {key: list(values) for key, values in differing_settings(comparison.a, comparison.b).items()},
        "dtype": comparison.dtype,
        "verdict": verdict(comparison),
        "measures": {name: _number(value) for name, value in measures(comparison, tau=tau).items()},
        "alignment": {
            "how": alignment.how,
            "pairs": len(alignment.pairs),
            "only_a": list(alignment.only_a),
            "only_b": list(alignment.only_b),
            "unknown_ids": alignment.unknown_ids,
        },
        "shift": comparison.shift and dataclasses.asdict(comparison.shift),
        "choices": {name: comparison.count(kind) for kind, name in enumerate(VERDICTS)},
        "chance": comparison.chance and {"equal": comparison.chance.equal, "jaccard": comparison.chance.jaccard},
        "layers": layer_rows(comparison),
        "tokens": token_rows(comparison),
        "renumbered": {
            str(layer): dataclasses.asdict(renumbering) | {"order": renumbering.order.tolist()}
            for layer, renumbering in comparison.renumbered.items()
        },
        "faults": {"a": list(map(_fault, comparison.faults_a)), "b": list(map(_fault, comparison.faults_b))},
    }


def layer_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return a dict per MoE layer: its statistics, and the number of choices with each verdict."""
    rows = []
    for index, layer in enumerate(comparison.layers["moe_layer"].values.tolist()):
        at, verdicts = comparison.layers.isel(moe_layer=index), comparison.choices["verdict"].values[:, index]
        numbers = {str(name): _number(at[name].item()) for name in at.data_vars}
        counts = np.bincount(verdicts, minlength=len(VERDICTS)).tolist()
        rows.append({"layer": layer, **numbers, **dict(zip(VERDICTS, counts, strict=True))})
    return rows


class FirstSplit(NamedTuple):
    """The first split of one aligned token."""

    token: int  # token index in A
    token_b: int
    verdict: str  # one of VERDICTS
    layer: int | None  # model layer number; None without a split


def first_splits(comparison: Comparison) -> list[FirstSplit]:
    """Return the first split of every aligned token, in the order of the alignment.

    A token without a split has the verdict "same", or "not recorded" if none of its layers was compared.
    """
    layers, verdicts = comparison.choices["moe_layer"].values.tolist(), comparison.choices["verdict"].values
    splits = []
    for (token, token_b), index, own in zip(
        comparison.alignment.pairs.tolist(), comparison.first_split.tolist(), verdicts.tolist(), strict=True
    ):
        if index >= 0:
            splits.append(FirstSplit(token, token_b, VERDICTS[own[index]], layers[index]))
        else:
            kind = UNKNOWN if all(verdict == UNKNOWN for verdict in own) else SAME
            splits.append(FirstSplit(token, token_b, VERDICTS[kind], None))
    return splits


def token_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return a dict per token with a split: its first split, and the experts that only one trace selected there.

    Experts are numbered as in A.
    """
    rows, first = [], comparison.first_split
    for pair in np.flatnonzero(first >= 0).tolist():
        index = int(first[pair])
        layer = int(comparison.choices["moe_layer"][index])
        at = comparison.choices.isel(pair=pair, moe_layer=index)
        token_a, token_b = comparison.alignment.pairs[pair].tolist()
        selected_a, selected_b = experts_at(comparison, pair, layer)
        rows.append(
            {
                "token": token_a,
                "token_b": token_b,
                "text": token_text(comparison.a, token_a),
                "layer": layer,
                "verdict": VERDICTS[int(at["verdict"])],
                "margin": _number(float(at["margin"])),
                "only_a": sorted(selected_a - selected_b),
                "only_b": sorted(selected_b - selected_a),
                "layers_split": int(comparison.is_split[pair].sum()),
                "logprob_difference": _number(float(at["logprob_difference"])),
            }
        )
    return rows


def experts_at(comparison: Comparison, pair: int, layer: int) -> tuple[set[int], set[int]]:
    """Return the experts that each trace selected for a pair in a layer, numbered as in A."""
    token_a, token_b = comparison.alignment.pairs[pair].tolist()
    ids_a, ids_b = (
        trace.data["expert_id"].sel(moe_layer=layer).values[token].tolist()
        for trace, token in ((comparison.a, token_a), (comparison.b, token_b))
    )
    if layer in comparison.renumbered:
        number_in_a = np.argsort(comparison.renumbered[layer].order)
        ids_b = [int(number_in_a[expert]) if expert >= 0 else -1 for expert in ids_b]
    return set(ids_a) - {-1}, set(ids_b) - {-1}


def token_text(trace: Trace, index: int) -> str:
    """Return a token's text; bytes that are no valid UTF-8 become escapes."""
    token = trace.tokens[index]
    return trace.text[token.start : token.end].decode("utf-8", "backslashreplace") or token.piece or f"#{token.id}"


def _described(trace: Trace) -> dict[str, Any]:
    described = {name: trace.model.get(name) for name in ("name", "weights_sha256", "tokenizer_sha256")}
    origin = {name: trace.origin.get(name) for name in ("kind", "engine", "device", "dtype")}
    own = {"tokens": trace.num_tokens, "interventions": list(trace.interventions), "notes": notes(trace)}
    return described | origin | own


def _fault(fault: Fault) -> dict[str, Any]:
    return dataclasses.asdict(fault) | {"layers": list(fault.layers)}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
