"""The overview above the tabs of an experiment: its effect and its control, both texts, and the coloured text."""

import math

import streamlit as st

from model.trace import effects
from pages.common import controls, session, text, token_row
from pages.intervene.counterfactual import tables
from pages.intervene.counterfactual.runs import Experiment
from viz import effects as figures

DRAWS = 8  # draws of a control; equal to `model.run.control.DRAWS`
CHIPS = 1_000  # tokens of the coloured text at a time
CHANGE, KL = "change of log-probability", "KL divergence"
MEANINGS = {
    KL: "How far the distribution of the token after each one moved: KL(original || changed), over the vocabulary.",
    CHANGE: "How much more probable each token of the original became, given those before it; below 0, less probable.",
}
VARIABLES = {KL: "kl", CHANGE: "logprob_change"}
_KL_HELP = (
    "A nat is a unit of information, 1.44 bits. KL divergence measures how far two distributions are apart; 0 is the "
    "same distribution. Derived from the logits of both runs."
)


def verdict(experiment: Experiment) -> None:
    """State the effect of the change beside that of its control, and plot both."""
    st.markdown(sentences(experiment), help=_KL_HELP)
    if not experiment.complete:
        st.caption(f"Stopped: {_draws_run(experiment)} of the control were run.")
    for remark in _remarks(experiment):
        st.caption(remark)
    draws = experiment.outcome.draws
    if draws is not None:
        means, control = effects.means(experiment.effect), effects.means(draws)
        title = "mean KL divergence, nats per token"
        figure = figures.against_control(means["kl"].item(), control["kl"].values, title, session.theme())
        how_to_read = (
            "The diamond is this change. Each circle is one draw of the control, the same change made to as many "
            "random experts of equal load. A diamond outside the grey band has more effect, or less, than every draw. "
            "Derived."
        )
        controls.chart(figure, "counterfactual-control", tables.summary(experiment), how_to_read)


def sentences(experiment: Experiment) -> str:
    """Return sentences on the effect of the change and on the effect of the control."""
    means, number = effects.means(experiment.effect), experiment.effect.sizes["token"]
    kl, change = means["kl"].item(), means["logprob_change"].item()
    answer = f"The next token's distribution moved by **{kl:.3g} nats** per token (mean KL, n = {number:,} tokens)"
    if math.isfinite(change):
        answer += f"; the text became {'more' if change > 0 else 'less'} probable by {abs(change):.3g} nats per token"
    if experiment.outcome.draws is None:
        return f"{answer}."
    draws = effects.means(experiment.outcome.draws)["kl"]
    low, high = (float(bound) for bound in effects.band(draws))
    rank = "more than any of them" if kl > high else "less than any of them" if kl < low else "as much as some of them"
    count = f"{draws.size} draw{'s' if draws.size > 1 else ''} of as many random experts of equal load"
    return f"{answer}. The control, {count}, moved it by {low:.3g} to {high:.3g}; this change moved it {rank}."


def _draws_run(experiment: Experiment) -> str:
    """Return how many of the control's draws were run, such as "3 of 8 draws"."""
    result = experiment.outcome
    number = 0 if result.draws is None else result.draws.sizes["draw"]
    return f"{number} of {DRAWS if result.control is None else len(result.control.draws)} draws"


def _remarks(experiment: Experiment) -> list[str]:
    """Return sentences on the weaknesses of the control."""
    control = experiment.outcome.control
    if control is None:
        return []
    if not control.draws:
        return ["There is no control: the change rerouted no token, or no other expert can replace the changed ones."]
    remarks = []
    if len(control.draws) < DRAWS:
        remarks.append(f"Only {len(control.draws)} control draws are possible; a reliable comparison needs {DRAWS}.")
    if control.share_beyond:
        remarks.append(
            f"Few experts have an equal load: {control.share_beyond:.1%} of the control's experts differ in load by "
            f"more than 20%, the farthest by {control.farthest:.0%}."
        )
    return remarks


def both_texts(experiment: Experiment) -> None:
    """Show the original text beside the text that the changed model generates."""
    original, written = experiment.trace, experiment.outcome.written
    if written is None:
        st.caption("The original has no generated text, so the changed model writes none.")
        return
    parting, num_prompt = effects.parting(original, written), sum(not token.generated for token in original.tokens)
    names = {"Original": original, "Changed, written by itself": written}
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
        [text.boxed(trace, index) for index in range(trace.num_tokens)[part]],
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
        f"token {index}: KL after it {moved:.3g} nats, its log-probability {own:+.3g} nats (derived)"
        for index, (moved, own) in enumerate(zip(kl, change, strict=True))
    ]
