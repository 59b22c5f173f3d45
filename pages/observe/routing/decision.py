"""The tab of one layer's decision: words, a chart, the equations with the numbers of one expert, and a table."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr

from model.trace.decision import Decision, needed_for_decision
from model.trace.derived import derived
from model.trace.imports import origin
from model.trace.observed_rule import rule_known
from model.trace.shape import LOGIT
from model.trace.trace import Trace
from pages.common import controls, session
from pages.common.tables import THREE
from pages.common.text import plain
from pages.observe.routing import path, steps, tables
from viz import decision as figures

BY_TABLE = (
    "In this layer a table gives the experts of each token id, so no score decides: there is no margin, and no expert "
    "is next best. The affinities only give the weights."
)
NEAR_TIE = ":orange-badge[near tie]"
_ROUGH = 5e-3  # an engine may have rounded what it recorded to bfloat16
_ROUGHER = 2.0**-6  # routers of other families may compute in the run's dtype, with several roundings
_COLUMNS = {
    name: THREE for name in ("group score", "logit", "ln affinity", "affinity", "bias - mean", "normalised", "weight")
} | {name: st.column_config.NumberColumn(format="%.4f") for name in ("group score", "bias", "with bias")}


def show(trace: Trace, token: int, layer: int, expert: int) -> None:
    """Draw the tab of the decision for one token in one layer."""
    known = rule_known(trace)
    if not known or not all(map(trace.has, needed_for_decision(trace))):
        unsaid = "not the scores that decided it" if known else "without a rule the page cannot say what decided it"
        st.info(f"This trace holds which experts were chosen, but {unsaid}.")
        st.dataframe(path.table(trace, token, {}), hide_index=True, height=300, placeholder="")
        return
    decision, lost, rows = derived(trace, ("decision", token, layer), lambda: _decide(trace, token, layer))
    st.markdown(
        because(decision, lost),
        help="A margin is the score of the last expert or group chosen minus the score of the best one that was not; "
        "it is derived from recorded scores. Lost only to the bias: without the bias, the router would have chosen "
        "this expert. Lost only to the group limit: without the limit, the router would have chosen it.",
    )
    for reservation in reservations(decision, str(trace.origin.get("dtype"))):
        st.caption(reservation)
    _chart(trace, decision, lost, expert, rows)
    _steps(trace, decision, expert)
    st.caption(f"L{layer}: the experts near the cut, and E{expert}. Each step says what is measured and what derived.")
    st.dataframe(
        tables.nearest(rows, expert), hide_index=True, column_config=_COLUMNS, height="content", placeholder=""
    )


def _decide(trace: Trace, token: int, layer: int) -> tuple[Decision, dict[str, xr.DataArray], pd.DataFrame]:
    decision = Decision.of(trace, token, layer)
    lost = {name: mask.sel(moe_layer=layer) for name, mask in path.losers(trace, token).items()}
    return decision, lost, tables.by_expert(decision, lost)


def _chart(trace: Trace, decision: Decision, lost: Mapping[str, xr.DataArray], expert: int, rows: pd.DataFrame) -> None:
    scoring, observed = steps.SCORINGS[decision.rule.scoring], origin.routing_kind(trace)
    logit = "logit" if decision.logit_kind == LOGIT else scoring.logit + scoring.reservation
    look = session.theme()
    figure = derived(decision, (expert, look), lambda: figures.steps(
        decision.experts, decision.groups, decision.rule, look, lost, expert, logit, observed,
        observed if decision.logit_kind else "derived", "logit" if decision.rule.bias_on_logits else "affinity",
        decision.by_table,
    ))  # fmt: skip
    how_to_read = _how_to_read(decision)
    controls.chart(figure, "routing-decision", rows, how_to_read, chooses=("layer", "expert"), layer=decision.layer)


def _how_to_read(decision: Decision) -> str:
    """Return how to read the panels; of bias, groups and the dashed line only what this layer has."""
    marks = []
    if decision.rule.has_selection_bias and not decision.by_table:
        marks.append(
            "In panel 3, the ring is where the layer's mean bias would put an expert; the mark at the end of the line "
            "is where its own bias puts it."
        )
    if decision.rule.num_groups > 1:
        marks.append("Among the groups, a thick line is a kept group; the top-k has only experts of kept groups.")
    if not decision.by_table:
        marks.append("In the top-k, experts on or above the dashed line were chosen.")
    return (
        f"A column per expert, a panel per step, from the top down. {' '.join(marks)} The dotted line runs through the "
        "expert that the steps below explain. Click an expert."
    )


def _steps(trace: Trace, decision: Decision, expert: int) -> None:
    """Draw the equations of all steps, one below the other, with the numbers of one expert."""
    verdict = "chosen" if decision.experts["chosen"].values[expert] else "not chosen"
    st.markdown(f"## L{decision.layer}E{expert} step by step: {verdict}")
    for step in steps.steps(decision, expert, origin.routing_kind(trace)):
        left, right = st.columns([2, 3], vertical_alignment="center", gap="medium")
        left.markdown(f"**{step.name}** :gray-badge[{step.tag}]  \n{step.text}")
        if step.equation:
            right.latex(step.equation)
    st.caption("The equations show numbers rounded to four decimals, but are computed with all digits.")


def because(decision: Decision, lost: Mapping[str, xr.DataArray]) -> str:
    """Return a few sentences on the decision. `lost` has the masks of `path.losers`."""
    chosen = decision.chosen
    if not len(chosen):
        return "The trace does not say which experts were chosen."
    first = chosen[np.argmax(decision.experts["affinity"].values[chosen])]
    strongest = f"E{first} has the largest affinity, {decision.experts['affinity'].values[first]:.3g}."
    if decision.by_table:
        strongest = f"Of these, {strongest}"
    sentences = [*([BY_TABLE] if decision.by_table else []), strongest]
    if np.isfinite(decision.group_margin):
        kept = _listed("", np.flatnonzero(decision.groups["kept"].values))
        margin = f"{decision.group_margin:.2g}{_near(decision.group_near)}"
        sentences.insert(0, f"Groups {kept} were kept, the last of them by a margin of {margin}.")
    if np.isfinite(decision.place_margin):
        sentences.append(
            f"E{chosen[-1]} was the last one chosen, by a margin of "
            f"{decision.place_margin:.2g}{_near(decision.place_near)}."
        )
    for name, mask in lost.items():
        sentences += [f"{_listed('E', np.flatnonzero(mask.values))} {name}."] if mask.any() else []
    return " ".join(sentences)


def _near(near: bool) -> str:
    return f" {NEAR_TIE}" if near else ""


def _listed(prefix: str, numbers: np.ndarray) -> str:
    return ", ".join(f"{prefix}{number}" for number in numbers.tolist())


def reservations(decision: Decision, dtype: str) -> list[str]:
    """Return sentences on why to doubt these numbers: an intervention, a contradiction between them, or a near tie."""
    sentences, dtype = [], plain(dtype, 40)
    if not decision.untouched:
        sentences.append(
            f"This run was changed in L{decision.layer}. Affinities, bias, group scores, kept groups, experts and "
            "weights are as recorded. Logit and biased score are derived from them. The choice need not follow from "
            "these, so the page compares no scores, shows no margin, and marks no expert as lost to the bias or the "
            "group limit."
        )
    elif decision.tolerance is None:
        unmarked = f"No tolerance was measured for {dtype}, so near ties are not marked."
        sentences += [] if decision.by_table else [unmarked]
    elif decision.place_near or decision.group_near:
        sentences.append(
            f"A near tie: with scores rounded to {dtype}, another implementation, device or batch may choose "
            "otherwise. A margin is near if it can vanish when every logit moves by up to "
            f"{100 * decision.tolerance:g} % of the standard deviation of this token's logits."
        )
    if not decision.follows_scores:
        sentences.append(
            "The recorded scores do not give the recorded choice: an expert that was left out has a higher score."
        )
    if decision.untouched and decision.group_gap > _ROUGH:
        sentences.append(
            f"The recorded group scores differ by up to {decision.group_gap:.2g} from those that the model's routing "
            "rule gives."
        )
    rough = _ROUGHER if decision.logit_kind and dtype != "float32" else _ROUGH
    if decision.untouched and decision.weight_gap > rough:
        sentences.append(
            f"The recorded weights differ by up to {decision.weight_gap:.0%} of the largest weight from those that the "
            "affinities give: the router followed another rule than the trace's configuration states."
        )
    return sentences
