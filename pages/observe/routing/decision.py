"""One layer's decision on the Routing page: as a picture, step by step with an expert's numbers, and as a table."""

import streamlit as st

from model.trace.decision import NEEDED, Decision
from model.trace.trace import Trace
from pages.common import controls, routing_tables, session, tables
from pages.observe.routing import steps
from pages.observe.routing import tables as microscope_tables
from viz import decision as figures

_COLUMNS = {
    name: tables.THREE
    for name in ("group score", "logit", "ln affinity", "affinity", "bias - mean", "normalised", "weight")
} | {name: st.column_config.NumberColumn(format="%.4f") for name in ("group score", "bias", "with bias")}


def show(trace: Trace, token: int, layer: int, expert: int) -> None:
    """Why this layer chose as it did, and what became of one expert."""
    if not all(map(trace.has, NEEDED)):
        st.info("This trace holds which experts were chosen, but not the scores that decided it.")
        st.dataframe(routing_tables.path(trace, token, {}), hide_index=True, height=300)
        return
    found = Decision.of(trace, token, layer)
    lost = {name: mask.sel(moe_layer=layer) for name, mask in routing_tables.losers(trace, token).items()}
    st.markdown(
        microscope_tables.because(found, lost),
        help="Margins are derived from recorded scores. Who lost only to the bias or only to the group limit is "
        "derived too: who would have been chosen by the same rule without it.",
    )
    for said in microscope_tables.reservations(found, str(trace.origin.get("dtype"))):
        st.caption(said)
    table = microscope_tables.table(found, lost)
    scoring = steps.SCORINGS[found.rule.scoring]
    figure = figures.steps(
        found.experts, found.groups, found.rule, session.theme(), lost, expert, scoring.logit + scoring.reservation,
        routing_tables.origin(trace),
    )  # fmt: skip
    said = (
        "A column per expert, a panel per step, from the top down. In 3 the ring is where the layer's mean bias would "
        "put an expert, the mark at the end of the line where its own does. In 4 a thick level is a kept group. In 6 "
        "only experts of kept groups are left, and those on or above the dashed line were chosen. The dotted line "
        "runs through the expert that the steps below are about. Click an expert."
    )
    controls.chart(figure, "routing-decision", table, said, chooses=("layer", "expert"))
    _steps(trace, found, expert)
    st.caption(f"L{layer}, the experts near the cut, and E{expert}. What is measured and what derived: in the steps.")
    st.dataframe(
        microscope_tables.nearest(table, expert), hide_index=True, column_config=_COLUMNS, height="content",
        placeholder="",
    )  # fmt: skip


def _steps(trace: Trace, found: Decision, expert: int) -> None:
    """The equations, one under the other, with the numbers of one expert."""
    verdict = "chosen" if found.experts["chosen"].values[expert] else "not chosen"
    st.markdown(f"##### L{found.layer}E{expert} step by step: {verdict}")
    for step in steps.steps(found, expert, routing_tables.origin(trace)):
        left, right = st.columns([2, 3], vertical_alignment="center", gap="medium")
        left.markdown(f"**{step.name}** :gray-badge[{step.tag}]  \n{step.says}")
        if step.equation:
            right.latex(step.equation)
    st.caption("Numbers are rounded to four decimals, the arithmetic is not.")
