"""What an experiment found: the effect beside its control, both texts, the strip, and the tabs below."""

import numpy as np
import streamlit as st
import xarray as xr

from model.trace import effects
from pages.common import controls, session, tables, text, token_row
from pages.intervene.counterfactual import importance
from pages.intervene.counterfactual import tables as counterfactual_tables
from pages.intervene.counterfactual.runs import Experiment
from viz import effects as pictures

NEXT, TOKENS, LAYERS, IMPORTANCE = TABS = "Next tokens", "Token by token", "Routing by layer", "Importance map"
SHOWN = 1_000  # chips at a time
CHANGE, KL = "change of log-probability", "KL divergence"
SAID = {
    KL: "How far the distribution of the token after each one moved: KL(original || changed), over the vocabulary.",
    CHANGE: "How much likelier each token of the original became, given those before it; below 0 is less likely.",
}
VARIABLES = {KL: "kl", CHANGE: "logprob_change"}


def about(name: str, experiment: Experiment | None, token: int) -> None:
    """Fill the tab of that name."""
    if name == IMPORTANCE:
        importance.show()
    elif experiment is None or not experiment.has_effect:
        st.caption("Run an experiment to see this.")
    elif name == NEXT:
        next_tokens(experiment, token)
    elif name == TOKENS:
        token_by_token(experiment, token)
    else:
        by_layer(experiment)


def verdict(experiment: Experiment) -> None:
    """The effect in a sentence and beside the control."""
    found = experiment.found
    assert found is not None
    st.markdown(counterfactual_tables.verdict(found), help="Derived from the runs' logits.")
    if not experiment.complete:
        st.caption(f"Stopped: {counterfactual_tables.draws_run(found)} of the control were run.")
    for remark in counterfactual_tables.remarks(found):
        st.caption(remark)
    summary = counterfactual_tables.summary(found)
    if found.draws is not None and found.effect is not None:
        draws = found.draws["kl"].mean("token").values
        figure = pictures.against_control(
            float(found.effect["kl"].mean()), draws, "mean KL divergence, nats a token", session.theme()
        )
        said = (
            "The diamond is this change, each circle one draw of the control: the same done to as many random experts "
            "of equal load. A diamond outside the grey band does more, or less, than any draw. Derived."
        )
        controls.chart(figure, "counterfactual-control", summary, said)


def both_texts(experiment: Experiment) -> None:
    """What the original wrote and what the changed model writes by itself."""
    found, trace = experiment.found, experiment.trace
    assert found is not None
    if found.written is None:
        st.caption("The original has no generated text, so that there is none to write anew.")
        return
    at = effects.parting(trace, found.written)
    left, right = st.columns(2)
    for place, name, one in ((left, "Original", trace), (right, "Changed, written by itself", found.written)):
        with place:
            st.caption(name)
            html = pictures.plain_text(*counterfactual_tables.parts(one, trace, at), session.theme())
            st.html(f"<style>{pictures.CSS}</style>{html}")
    said = "They are the same." if at is None else f"They part at token {at}."
    st.caption(
        f"{said} Grey is the prompt; both were drawn with the same settings and the same seed. Everything below was "
        "run on the tokens of the original instead, so that only the change differs."
    )


def strip(experiment: Experiment, token: int) -> None:
    """The original's text, every token on the scale of change."""
    shown = st.segmented_control(
        "Colour by", list(VARIABLES), default=CHANGE, required=True, key="shade", bind="query-params"
    )
    values, trace = _effect(experiment)[VARIABLES[shown or CHANGE]].values, experiment.trace
    first = token // SHOWN * SHOWN
    part = slice(first, first + SHOWN)
    names = [text.boxed(trace, index) for index in range(trace.num_tokens)[part]]
    html = pictures.text_with_change(
        names, values[part], counterfactual_tables.in_words(_effect(experiment))[part],
        (~trace.prompt_mask.values).tolist()[part], trace.special_mask.values.tolist()[part], session.theme(), token,
        first,
    )  # fmt: skip
    st.html(f"<style>{pictures.CSS}</style>{html}")
    st.caption(f"{SAID[shown or CHANGE]} Derived; n = {trace.num_tokens:,} tokens.")
    token_row.show(trace, token)


def next_tokens(experiment: Experiment, token: int) -> None:
    """The likeliest tokens after one, in both runs."""
    found = experiment.found
    assert found is not None
    assert found.original is not None
    assert found.changed is not None
    vocabulary = session.vocabulary(experiment.trace)
    left, right = st.columns(2)
    for place, name, trace in ((left, "original", found.original), (right, "changed", found.changed)):
        table = tables.next_tokens(trace, token, vocabulary)
        with place:
            st.caption(f"After token {token}, {name}: the model's own distribution (measured).")
            st.dataframe(table, hide_index=True, column_config=tables.NEXT_TOKENS, height=300, key=f"next-{name}")
            controls.download_table(table.drop(columns=" "), f"next-tokens-{name}")


def token_by_token(experiment: Experiment, token: int) -> None:
    """Both effects along the text, with the control's band."""
    table = counterfactual_tables.by_token(experiment)
    for name, variable in VARIABLES.items():
        figure = pictures.by_token(
            _effect(experiment)[variable].values, _band(experiment, variable), controls.token_names(experiment.trace),
            "nats", session.theme(), token,
        )  # fmt: skip
        st.caption(f"{name[0].upper()}{name[1:]}")
        said = f"{SAID[name]} The grey band reaches from the lowest to the highest draw of the control. Click a bar."
        controls.chart(figure, f"counterfactual-{variable}", table, said, chooses=("token",))


def by_layer(experiment: Experiment) -> None:
    """How far the routing stayed the same, layer by layer."""
    effect, trace = _effect(experiment), experiment.trace
    layers = effect["moe_layer"].values.tolist()
    touched = counterfactual_tables.touched(experiment)
    table = counterfactual_tables.by_layer(experiment)
    titles = {"equal_sets": "tokens with the same experts", "jaccard": "experts in common (Jaccard)"}
    for place, (variable, title) in zip(st.columns(2), titles.items(), strict=True):
        figure = pictures.by_layer(
            layers, effect[variable].values, _band(experiment, variable), title, session.theme(), touched
        )
        said = (
            f"By layer, {title}, against the original; 100 % is unchanged. Outlined: the layers that the change itself "
            "touched; in those after them the routing follows what it did. Grey: the control's draws. An expert "
            f"without weight does not count. Derived; n = {trace.num_tokens:,} tokens."
        )
        with place:
            controls.chart(figure, f"counterfactual-{variable}", table, said)


def _effect(experiment: Experiment) -> xr.Dataset:
    assert experiment.found is not None
    assert experiment.found.effect is not None
    return experiment.found.effect


def _band(experiment: Experiment, variable: str) -> tuple[np.ndarray, np.ndarray] | None:
    """The control's lowest and highest draw; None where there is none."""
    assert experiment.found is not None
    draws = experiment.found.draws
    if draws is None:
        return None
    low, high = effects.band(draws[variable])
    return low.values, high.values
