"""The overview above the tabs: what this run did not record, and the token's path through the layers."""

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from model.trace.derived import derived
from model.trace.imports import origin
from model.trace.observed_rule import rule_known, rule_of
from model.trace.scores import needed_for_selection
from model.trace.trace import Trace
from pages.common import controls, session, text
from pages.observe.routing import path
from viz import routing as figures
from viz.theme import Theme

_SCORES = {
    "router_logit": "the router's logits",
    "router_score": "affinities",
    "expert_bias": "the bias",
    "group_kept": "the kept groups",
    "group_score": "the groups' scores",
    "gate_weight": "weights",
}
_OF_OLDER_TRACES = ("router_score", "expert_bias", "group_kept", "gate_weight")


def remarks(trace: Trace) -> None:
    """Show a note if the run had interventions, and a note on variables that the trace lacks."""
    edits = text.edits(trace)
    if edits:
        st.info(
            f"This run was changed: {', '.join(edits)}. In the changed layers the page shows no margin and marks no "
            "expert as lost to the bias or the group limit: both describe how the model chooses as trained."
        )
    if trace.router and not rule_known(trace):
        st.info(
            "The rule by which this router chooses and weighs experts is not known"
            f"{f' ({text.plain(trace.router.note, 200)})' if trace.router.note else ''}. Experts, weights and the "
            "router's output are as recorded; the page shows no affinity and no margin."
        )
    missing = [_SCORES[name] for name in _expected(trace) if not trace.has(name)]
    if missing:
        st.info(f"This trace does not hold {', '.join(missing)}. The page leaves out what needs them.")


def _expected(trace: Trace) -> tuple[str, ...]:
    """Return the variables that a trace of this router should hold."""
    if trace.router is None:
        return _OF_OLDER_TRACES
    return ("gate_weight", *(needed_for_selection(rule_of(trace)) if rule_known(trace) else ["router_logit"]))


def verdict(trace: Trace, token: int, layer: int) -> str:
    """Return a sentence on the token's experts in the layer with their gate weights, the largest first."""
    at = path.at_token(trace, token).sel(moe_layer=layer)
    experts = [f"E{expert}" for expert in at["expert_id"].values.tolist() if expert >= 0]
    if not experts:
        return f"The trace does not hold the experts of token {token} in L{layer}."
    if "gate_weight" in at:
        weights = at["gate_weight"].values.tolist()
        experts = [f"{name} (weight {weight:.3g})" for name, weight in zip(experts, weights, strict=False)]
    name = text.as_code(text.token(trace, token))
    return f"In L{layer}, token {token} {name} went to **{', '.join(experts)}**."


def token_path(trace: Trace, token: int, layer: int, expert: int | None) -> None:
    """Draw the experts of the token in every layer."""
    look = session.theme()
    key = ("routing-path", token, layer, expert, look)
    figure, table = derived(trace, key, lambda: _token_path(trace, token, (layer, expert), look))
    controls.chart(figure, "routing-path", table, _how_to_read(trace), chooses=("layer", "expert"))


def _token_path(
    trace: Trace, token: int, chosen: tuple[int, int | None], look: Theme
) -> tuple[go.Figure, pd.DataFrame]:
    lost = path.losers(trace, token)
    figure = figures.token_path(
        path.at_token(trace, token), rule_of(trace), look, lost, chosen, origin.routing_kind(trace)
    )
    return figure, path.table(trace, token, lost)


def _how_to_read(trace: Trace) -> str:
    """Return how to read the path; of kept groups, affinity and lost experts only what this router has."""
    rule = rule_of(trace)
    grouped, marks = rule.num_groups > 1, []
    if rule.num_kept_groups < rule.num_groups:
        marks.append("Grey bands are the kept groups.")
    if rule_known(trace):
        marks.append("Blue is affinity.")
    if rule_known(trace) and rule.has_selection_bias:
        marks.append("A triangle is an expert that would have been chosen without the bias.")
    if rule.num_kept_groups < rule.num_groups:
        marks.append("A hatched cell is an expert that would have been chosen without the group limit.")
    return (
        f"A row per MoE layer, the first at the bottom; a column per expert{', coloured by group' * grouped}. A square "
        f"is a chosen expert; a stronger colour is a larger weight. {' '.join(marks)} Click a cell to choose its layer "
        "and expert."
    )
