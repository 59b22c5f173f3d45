"""The run in four numbers, above the tabs."""

import math

import streamlit as st

from model.trace import load, metrics
from model.trace.derived import derived
from model.trace.trace import Trace
from pages.common import text
from pages.common.runs import Run


def numbers(run: Run) -> None:
    """Show tokens, speed, mean surprisal and the worst MaxVio."""
    trace = run.trace
    assert trace is not None
    columns = st.columns(4)
    new = sum(token.generated for token in trace.tokens)
    columns[0].metric("Tokens", f"{trace.num_tokens:,}", help=f"{trace.num_tokens - new} of the prompt, {new} new")
    speed = f"{trace.num_tokens / run.seconds:.0f}" if run.seconds else "not timed"
    columns[1].metric(
        "Tokens/s", speed, help="Measured over all tokens, the prompt's too; the time includes drawing the page."
    )
    value, meaning = derived(trace, "mean surprisal", lambda: mean_surprisal(trace))
    columns[2].metric("Mean surprisal", value, help=meaning)
    value, meaning = derived(trace, "worst layer", lambda: worst_layer(trace))
    columns[3].metric("Worst MaxVio", value, help=meaning)


def mean_surprisal(trace: Trace) -> tuple[str, str]:
    """Return the mean surprisal in bits as "prompt / generated", and a help text on what it means."""
    if not trace.has("logprob"):
        return "not recorded", "Needs the tokens' log-probabilities."
    logprob, is_prompt = trace.data["logprob"], trace.prompt_mask
    means = [metrics.mean_surprisal_bits(logprob.where(mask)) for mask in (is_prompt, ~is_prompt)]
    values = [f"{bits:.3g}" for bits in means if not math.isnan(bits)]
    return (
        f"{' / '.join(values)} bit" if values else "not recorded",
        "How unexpected the tokens were to the model: 0 bit is certain, each bit halves the probability. "
        f"Derived: {' / '.join(metrics.surprisal_in_words(logprob, is_prompt))}. The first token has none.",
    )


def worst_layer(trace: Trace) -> tuple[str, str]:
    """Return the largest MaxVio of all layers, and a help text with its meaning and the bound of a random router."""
    if not trace.has("expert_id"):
        return "not recorded", "Needs the chosen experts."
    measured = load.measure(trace)
    if measured.num_tokens == 0:
        return "not recorded", "The trace holds no token's experts."
    layer, violation, band = measured.least_even[0], measured.violation, measured.band
    chance = (
        f" In 95 % of fair layers it is at most {band.max_violation:.3g}. {text.fair(measured.rule)}" if band else ""
    )
    return (
        f"{float(violation.sel(moe_layer=layer)):.3g} (L{layer})",
        f"By how much the busiest expert of any layer exceeds a fair share, in units of that share. "
        f"Derived; n = {measured.num_tokens} tokens.{chance}",
    )
