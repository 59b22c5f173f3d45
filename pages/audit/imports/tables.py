"""The table of an imported trace: the parts that it holds, for how many tokens, and why other parts are missing."""

import numpy as np
import pandas as pd

from model.trace import metrics
from model.trace.imports import origin
from model.trace.imports.counts import Counts
from model.trace.trace import Trace

# Part of a trace -> the variables that hold it.
PARTS = {
    "chosen experts": ("expert_id",),
    "weights": ("gate_weight",),
    "affinities": ("router_score",),
    "selection bias": ("expert_bias",),
    "kept groups": ("group_kept",),
    "probabilities of tokens": ("logprob", "candidate_logprob"),
    "attention": ("attention",),
}
# Part of a trace -> its name in the readers' reasons for missing parts.
_NAMES_IN_REASONS = {"affinities": "scores", "selection bias": "bias", "kept groups": "groups"}


def held(trace: Trace) -> pd.DataFrame:
    """Return a table with a row per part of a trace: how many tokens have it and its origin, or why it is missing."""
    known, total, kind = sum(token.id >= 0 for token in trace.tokens), trace.num_tokens, origin.kind(trace)
    no_ids, no_text = "the file holds no token ids", "there is no tokenizer to turn these ids into text"
    text = f"{len(trace.text):,} bytes" if trace.text else "no"
    rows = [
        ("token ids", _of(known, total), kind if known else "missing", "" if known else no_ids),
        ("text", text, kind if trace.text else "missing", "" if trace.text else no_text),
    ]
    reasons, derived = origin.missing(trace), origin.derived(trace)
    for part, variables in PARTS.items():
        if any(trace.has(variable) for variable in variables):
            number = total
            if part == "chosen experts":
                number = int(np.count_nonzero(metrics.has_experts(trace.data["expert_id"])))
            tag = "derived" if set(variables) & set(derived) else kind
            rows.append((part, _of(number, total), tag, _why_partial(number, total)))
        else:
            rows.append((part, "no", "missing", _why_missing(part, reasons, trace)))
    return pd.DataFrame(rows, columns=["part", "known", "tag", "why not"])


def counted(counts: Counts) -> pd.DataFrame:
    """Return a table with a row per MoE layer: its selections, the busiest expert, and experts that nobody selected."""
    measures = counts.measures()
    return pd.DataFrame(
        {
            "layer": [f"L{layer}" for layer in measures["moe_layer"].values],
            "selections": measures["selections"].values,
            "busiest expert": [f"E{expert}" for expert in measures["busiest"].values],
            "MaxVio": measures["max_violation"].values,
            "entropy": measures["entropy"].values,
            "never selected": measures["dead"].values,
        }
    )


def _of(number: int, total: int) -> str:
    return "all" if number == total else f"{number:,} of {total:,} tokens" if number else "no"


def _why_partial(number: int, total: int) -> str:
    return (
        ""
        if number == total
        else ("the recording has no row for the others; the engine never processes the last sampled token")
    )


def _why_missing(part: str, reasons: dict[str, str], trace: Trace) -> str:
    rule = trace.router.rule if trace.router else None
    if rule and (part, rule.has_selection_bias) == ("selection bias", False):
        return "the router has no bias"
    if rule and (part, rule.num_groups) == ("kept groups", 1):
        return "the router has no groups"
    name = _NAMES_IN_REASONS.get(part, part)
    return next((reason for subject, reason in reasons.items() if name in subject), "it was not recorded")
