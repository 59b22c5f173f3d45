"""The overview above the tabs of an experiment: its effect and its control, both texts, and the coloured text."""

import math
from decimal import Decimal

import streamlit as st

from model.run.interventions import ForceExpert, KnockOut
from model.trace import effects
from pages.common import controls, session, text, token_row
from pages.intervene.counterfactual import tables
from pages.intervene.counterfactual.runs import Experiment
from viz import effects as figures

LISTED = 4  # experts named in the verdict
CHIPS = 1_000  # tokens of the coloured text at a time
CHANGE, KL = "change of log-probability", "KL divergence"
MEANINGS = {
    KL: (
        "How far the model's prediction after each token moved: KL(original || changed) of the next token's "
        "distribution, over the vocabulary."
    ),
    CHANGE: (
        "How much more probable each token of the original text became, given the tokens before it; below 0, it "
        "became less probable."
    ),
}
VARIABLES = {KL: "kl", CHANGE: "logprob_change"}
_DONE = {KnockOut: "knocked out", ForceExpert: "forced"}
_KL_HELP = (
    "A nat is a unit of information, 1.44 bits. KL divergence measures how far two distributions are apart; 0 is the "
    "same distribution. Derived from the logits of both runs."
)


def verdict(experiment: Experiment) -> None:
    """Show the effect of the change beside the effect of its control, in words and as a chart."""
    st.markdown(sentences(experiment), help=_KL_HELP)
    if not experiment.complete:
        st.caption(_stopped(experiment))
    draws, matched = experiment.outcome.draws, experiment.outcome.matched
    if draws is None or matched is None:
        return
    means, control = effects.means(matched), effects.means(draws)
    title = "mean KL divergence, nats per token"
    figure = figures.against_control(means["kl"].item(), control["kl"].values, title, session.theme())
    how_to_read = (
        "The diamond is this change, counted over as many tokens as each control run reroutes. Each circle is one "
        "control run; the grey band reaches from the lowest to the highest. Among N + 1 changes that matter equally, "
        "each is as likely to be the largest, so a change that matters no more than the control lies right of all N "
        "circles in 1 of N + 1 cases, and left of all of them equally often. Derived."
    )
    controls.chart(figure, "counterfactual-control", tables.summary(experiment), how_to_read)


def sentences(experiment: Experiment) -> str:
    """Return sentences on the effect of the change, on its control, and on what the comparison shows."""
    means, number = effects.means(experiment.effect), experiment.effect.sizes["token"]
    kl, change = means["kl"].item(), means["logprob_change"].item()
    answer = (
        f"**{_name(experiment)}**: the predictions of the next token moved by **{_digits(kl)} nats** per token "
        f"(mean KL, n = {number:,} tokens)"
    )
    if math.isfinite(change):
        answer += (
            f"; the text became {'more' if change > 0 else 'less'} probable by {_digits(abs(change))} nats per token"
        )
    if experiment.outcome.draws is not None:
        return f"{answer}. {_about_control(experiment)} {_standing(experiment)}"
    control = experiment.outcome.control
    if control is None:
        return f"{answer}."
    if experiment.outcome.named and not control.num_rerouted:
        return f"{answer}. There is no control, because the change reroutes no token."
    return f"{answer}. There is no control: no other experts can be changed in the same way."


def _name(experiment: Experiment) -> str:
    """Return the change in words; a long list of experts is cut."""
    changed = experiment.outcome.changed
    words = text.edits(changed) if changed is not None else []
    return ", ".join(words) if len(words) <= LISTED else f"{', '.join(words[:LISTED])} and {len(words) - LISTED} more"


def _about_control(experiment: Experiment) -> str:
    """Return a sentence on what the control is, and on how far it changed the predictions."""
    control, draws, named = experiment.outcome.control, experiment.outcome.draws, experiment.outcome.named
    assert control is not None
    assert draws is not None
    low, high = (float(bound) for bound in effects.band(effects.means(draws)["kl"]))
    number, moved = draws.sizes["draw"], f"the predictions moved by {_digits(low)} to {_digits(high)} nats"
    if not named:
        beyond = (
            f" ({control.share_beyond:.0%} of them differ in load by more than 20 %)" if control.share_beyond else ""
        )
        return (
            f"As a control, {number} runs replaced as many experts of each token as this change does, at random, by "
            f"others of about equal load{beyond}: {moved}."
        )
    who = "other experts" if len(named) == 1 else f"other sets of {len(named)} experts"
    tokens = f"{control.num_matched:,} token{'' if control.num_matched == 1 else 's'}"
    done = f"{who} of L{named[0].layer} were {_DONE[type(named[0])]} in turn ({number} runs), each for {tokens}"
    if control.repeated is None:
        return f"As a control, {done}, as many as this change reroutes: {moved}."
    matched = experiment.outcome.matched
    assert matched is not None
    return (
        f"This change reroutes {control.num_rerouted:,} tokens, and too few other experts reroute as many. As a "
        f"control, {done}: {moved}. Counted over as many tokens, this change moves the predictions by "
        f"{_digits(effects.means(matched)['kl'].item())} nats."
    )


def _standing(experiment: Experiment) -> str:
    """Return a sentence on how the change ranks among the control runs, with the significance level."""
    draws, matched = experiment.outcome.draws, experiment.outcome.matched
    assert draws is not None
    assert matched is not None
    at = effects.standing(effects.means(matched)["kl"].item(), effects.means(draws)["kl"].values)
    if not (at.above or at.below):
        return "This change and all control runs moved the predictions equally."
    if at.draws not in (at.above, at.below):
        return f"That is more than in {at.below} of the {at.draws}: no more and no less than chance explains."
    side = "more" if at.below else "less"
    return (
        f"**That is {side} than in any control run.** Of changes that matter as much as the control, "
        f"1 in {at.draws + 1} moves the predictions {side} than all control runs (p = {at.level:.2g})."
    )


def _digits(nats: float) -> str:
    """Return a number with three digits, without an exponent.

    >>> _digits(0.0000902)
    '0.0000902'
    """
    return f"{Decimal(f'{nats:.3g}'):f}"


def about_band(experiment: Experiment) -> str:
    """Return a sentence on the grey band of the control, for the help of a chart."""
    control, draws = experiment.outcome.control, experiment.outcome.draws
    if control is None or draws is None:
        return "There is no control."
    band = f"The grey band reaches from the lowest to the highest of {draws.sizes['draw']} control runs"
    if control.repeated is None:
        return f"{band}."
    return f"{band}, which reroute {control.num_matched:,} tokens each; this change reroutes {control.num_rerouted:,}."


def _stopped(experiment: Experiment) -> str:
    """Return a sentence on how many runs of the control were done before the visitor stopped the experiment."""
    control, draws = experiment.outcome.control, experiment.outcome.draws
    if control is None:
        return "Stopped before the control."
    return f"Stopped: {0 if draws is None else draws.sizes['draw']} of {len(control.draws)} control runs were done."


def both_texts(experiment: Experiment) -> None:
    """Show the original text beside the text that the changed model generates."""
    original, written = experiment.trace, experiment.outcome.written
    if written is None:
        st.caption("The original has no generated text, so the changed model writes none.")
        return
    parting, num_prompt = effects.parting(original, written), sum(not token.generated for token in original.tokens)
    names = {"Original": original, "Written by the changed model": written}
    for column, (name, trace) in zip(st.columns(2), names.items(), strict=True):
        with column:
            st.caption(name)
            html = figures.plain_text(*effects.text_parts(trace, num_prompt, parting), session.theme())
            st.html(f"<style>{figures.CSS}</style>{html}")
    difference = "Both texts are the same." if parting is None else f"The texts differ from token {parting} on."
    st.caption(
        f"{difference} Grey is the prompt; both were drawn with the same settings and the same seed. Every number "
        "below comes from runs over the tokens of the original, so only the change differs."
    )


def strip(experiment: Experiment, token: int) -> None:
    """Show the original text, every token coloured by the effect of the change on it."""
    shade = st.segmented_control(
        "Colour by", list(VARIABLES), default=CHANGE, required=True, key="shade", bind="query-params",
        help="  \n".join(f"**{name}**: {meaning}" for name, meaning in MEANINGS.items()),
    )  # fmt: skip
    trace, first = experiment.trace, token // CHIPS * CHIPS
    part = slice(first, first + CHIPS)
    html = figures.text_with_change(
        [text.token(trace, index) for index in range(trace.num_tokens)[part]],
        experiment.effect[VARIABLES[shade or CHANGE]].values[part], _hover(experiment)[part],
        [entry.generated for entry in trace.tokens[part]], [entry.special for entry in trace.tokens[part]],
        session.theme(), token, first,
    )  # fmt: skip
    st.html(f"<style>{figures.CSS}</style>{html}")
    st.caption(f"{MEANINGS[shade or CHANGE]} Derived; n = {trace.num_tokens:,} tokens.")
    token_row.show(trace, token)


def _hover(experiment: Experiment) -> list[str]:
    """Return a hover text per token."""
    kl, change = (experiment.effect[name].values.tolist() for name in ("kl", "logprob_change"))
    return [
        f"token {index}: KL after it {moved:.3g} nats, change of its log-probability {own:+.3g} nats (derived)"
        for index, (moved, own) in enumerate(zip(kl, change, strict=True))
    ]
