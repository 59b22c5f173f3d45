"""The report's sections on the text: the strip of tokens, and the table with a row per token."""

import numpy as np

from model.report.parts import lacking, remark, section, tag, three
from model.report.subject import MOST_TOKENS, Subject
from model.trace import metrics
from model.trace.imports import origin
from viz.report.markup import element, table, text
from viz.report.strip import LEGEND, text_strip
from viz.tokens import name

WITHOUT_TEXT = (
    "This report was made without the text: it holds no token's text and no id. Whoever has the same model can still "
    "try to guess tokens from their experts, their surprisal and their attention."
)


def strip(subject: Subject) -> str:
    """Return the section with the text as tokens; without text, the sentence that says so."""
    trace, heading = subject.trace, "The text"
    if not subject.choice.with_text:
        return section("text", heading, "", lacking(WITHOUT_TEXT))
    colours = {} if subject.no_routing else _first_experts(subject)
    first, nearby, spelled = subject.nearby
    drawn = text_strip(nearby, spelled, colours, _hovers(subject), subject.shown, subject.choice.token, first)
    colour = f"The colour is the expert with the largest weight in {subject.layer_name}. " if colours else ""
    if colours and not trace.has("gate_weight"):
        colour = f"The colour is the first expert of the recording in {subject.layer_name}; weights are unknown. "
    meaning = f"{colour}Click a token to go to its row in the table. The report follows the outlined token."
    return section("text", heading, f"{_counts(subject)}.", drawn, LEGEND, remark(meaning, cut(subject)))


def _counts(subject: Subject) -> str:
    trace = subject.trace
    special, size = int(trace.special_mask.sum()), len(trace.text)
    words = f"{trace.num_tokens:,} tokens" + (f", {special:,} of them special," if special else "")
    return f"{words} spell {size:,} bytes" if size else f"{words}; the trace holds their ids, but no text"


def cut(subject: Subject) -> str:
    """Return a sentence on the tokens that the report leaves out; nothing if it shows all."""
    shown, number = subject.shown, subject.trace.num_tokens
    if len(shown) == number:
        return ""
    return (
        f"The report shows tokens {shown[0]:,} to {shown[-1]:,} of the {number:,} here; "
        f"it is limited to {MOST_TOKENS:,}. All tokens count in the load."
    )


def _first_experts(subject: Subject) -> dict[int, int]:
    first = subject.trace.data["expert_id"].sel(moe_layer=subject.choice.layer).values[:, 0]
    return {token: int(first[token]) for token in subject.shown if first[token] >= 0}


def _hovers(subject: Subject) -> dict[int, str]:
    """Return a line on each token of the strip: its number, id, bytes, surprisal and experts."""
    trace, bits = subject.trace, _bits(subject)
    experts = _experts(subject)
    lines = {}
    for index in subject.shown:
        entry = trace.tokens[index]
        size = entry.end - entry.start
        facts = [f"token {index}", f"id {entry.id}" if entry.id >= 0 else "", f"{size} bytes" if size else "no text"]
        facts += [f"{bits[index]:.3g} bit" if np.isfinite(bits[index]) else ""]
        facts += [f"{subject.layer_name}: {experts[index]}" if experts else ""]
        lines[index] = ", ".join(filter(None, facts))
    return lines


def _bits(subject: Subject) -> np.ndarray:
    data = subject.trace.data
    return metrics.surprisal_bits(data["logprob"]).values if "logprob" in data else np.full(data.sizes["token"], np.nan)


def _experts(subject: Subject) -> dict[int, str]:
    """Return the experts of each token of the strip in the chosen layer, with their weights; empty without routing."""
    if subject.no_routing:
        return {}
    shown = slice(subject.shown.start, subject.shown.stop)
    at = subject.trace.data.isel(token=shown).sel(moe_layer=subject.choice.layer)
    ids = at["expert_id"].values
    weights = at["gate_weight"].values if "gate_weight" in at else np.full(ids.shape, np.nan)
    return {
        token: ", ".join(_slot(*pair) for pair in zip(row, row_weights, strict=True) if pair[0] >= 0) or "unknown"
        for token, row, row_weights in zip(subject.shown, ids.tolist(), weights.tolist(), strict=True)
    }


def _slot(expert: int, weight: float) -> str:
    return f"E{expert}" if np.isnan(weight) else f"E{expert} {weight:.2f}"


def by_token(subject: Subject) -> str:
    """Return the section with a row per token."""
    trace, bits, experts, with_text = subject.trace, _bits(subject), _experts(subject), subject.choice.with_text
    header = ["token", *(["text", "id", "bytes"] if with_text else []), "part", "surprisal (bit)"]
    header += [f"experts in {subject.layer_name}{', with weights' * trace.has('gate_weight')}"] if experts else []
    rows = []
    for index in subject.shown:
        entry = trace.tokens[index]
        cells = [str(index)]
        if with_text:
            spelled = element("code", element("bdi", text(name(entry, trace.text))))
            cells += [spelled, str(entry.id) if entry.id >= 0 else "–", str(entry.end - entry.start)]
        part = "special" if entry.special else "generated" if entry.generated else "prompt"
        rows.append([*cells, part, three(float(bits[index])), *([experts[index]] if experts else [])])
    texts = {"text", "part", header[-1] if experts else ""}
    means = metrics.surprisal_in_words(trace.data["logprob"], trace.prompt_mask) if trace.has("logprob") else []
    answer = f"Mean surprisal: {' and '.join(means)}. {tag('derived')}" if means else _no_surprisal(subject)
    meaning = (
        "Surprisal says how unexpected a token was to the model: 0 bit is certain, each bit halves the probability."
        if means
        else ""
    )
    whole = table(header, rows, "tokens", texts, (f"token-{index}" for index in subject.shown))
    return section("tokens", "Every token", answer, remark(meaning, cut(subject)), whole)


def _no_surprisal(subject: Subject) -> str:
    return text(f"The trace does not hold the tokens' probabilities.{subject.reason('probabilit')}")


def origins(subject: Subject) -> dict[str, str]:
    """Return for each kind of numbers in these sections how they came about."""
    recorded = origin.kind(subject.trace)
    kinds = {"tokens": recorded}
    if subject.trace.has("logprob"):
        kinds |= {"probabilities of tokens": recorded, "surprisal": "derived"}
    return kinds
