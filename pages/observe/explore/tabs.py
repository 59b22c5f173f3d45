"""What Explore says of a finished run below the lens."""

import math

import streamlit as st

from model.trace import metrics
from model.trace.trace import Trace
from pages.common import controls, loads, prompt, routing_tables, session, tables, text
from pages.common.menu import page_path
from pages.common.runs import Run
from pages.observe.explore import drafts
from viz import load

TABS = ["This token", "Next tokens", "All layers", "Drafts", "Table"]


def figures(run: Run) -> None:
    """The run in four numbers."""
    trace = run.trace
    assert trace is not None
    columns = st.columns(4)
    new = trace.num_tokens - int(trace.prompt_mask.sum())
    columns[0].metric("Tokens", f"{trace.num_tokens:,}", help=f"{trace.num_tokens - new} of the prompt, {new} new")
    speed = f"{trace.num_tokens / run.seconds:.0f}" if run.seconds else "not timed"
    columns[1].metric("Tokens/s", speed, help="Measured, the prompt's tokens and drawing included.")
    bits = float(metrics.surprisal_bits(trace.data["logprob"]).mean()) if trace.has("logprob") else math.nan
    said = "not recorded" if math.isnan(bits) else f"{bits:.3g} bit"
    columns[2].metric("Mean surprisal", said, help=f"Derived; n = {trace.num_tokens - 1} tokens after the first.")
    said, cautions = worst_layer(trace)
    columns[3].metric("Worst MaxVio", said, help=cautions)


def worst_layer(trace: Trace) -> tuple[str, str]:
    """The layer whose busiest expert exceeds a fair share most, and how far chance alone goes."""
    if not trace.has("expert_id"):
        return "not recorded", "Needs the chosen experts."
    measured = loads.measure(trace)
    if measured.num_tokens == 0:
        return "not recorded", "The trace knows no token's experts."
    violation, band = metrics.max_violation(measured.counts), measured.band
    chance = f" Fair routing alone stays under {band.max_violation:.3g} in 95 % of cases." if band else ""
    said = f"How far the busiest expert exceeds a fair share. Derived; n = {measured.num_tokens} tokens.{chance}"
    return f"{float(violation.max()):.3g} (L{int(violation.idxmax('moe_layer'))})", said


def about(name: str, trace: Trace, token: int) -> None:
    """Fill the tab of that name."""
    if name == "This token":
        this_token(trace, token)
    elif name == "Next tokens":
        next_tokens(trace, token)
    elif name == "All layers":
        all_layers(trace)
    elif name == "Drafts":
        drafts.show(trace, token)
    else:
        table(trace)


def this_token(trace: Trace, token: int) -> None:
    """One token: what it is, and the experts it took in every layer."""
    entry = trace.tokens[token]
    part = "generated" if entry.generated else "prompt"
    st.markdown(f"Token **{token}**, id {entry.id}, {entry.end - entry.start} bytes, {part}")
    st.code(text.token(trace, token), language=None)
    if trace.has("expert_id"):
        weighed = "with their weights as applied, the largest first" if trace.has("gate_weight") else "as recorded"
        st.caption(f"Its experts {weighed} ({routing_tables.origin(trace)}).")
        st.table(tables.experts(trace, token), hide_index=True, border="horizontal")
        _why(token)


def _why(token: int) -> None:
    """A link to the decision of the layer on show for this token; the address holds all of the view."""
    chosen = {
        name: str(st.session_state[name]) for name in ("layer", "expert") if st.session_state.get(name) is not None
    }
    asked = {name: value for name, value in st.query_params.to_dict().items() if name in prompt.RUN_KEYS}
    st.page_link(
        page_path("routing"),
        label="Why these experts?",
        icon=":material/arrow_forward:",
        query_params=asked | chosen | {"token": str(token)},
        help="This layer's choice for this token, step by step.",
    )


def next_tokens(trace: Trace, token: int) -> None:
    """The likeliest tokens after this one."""
    if not trace.has("candidate_id"):
        st.info("This trace does not hold the next-token distribution.")
        return
    table = tables.next_tokens(trace, token, session.vocabulary(trace))
    st.caption(f"After token {token}: the model's own distribution, temperature 1, nothing cut off (measured).")
    st.dataframe(table, hide_index=True, column_config=tables.NEXT_TOKENS, height=300)
    controls.download_table(table.drop(columns=" "), "next-tokens")


def all_layers(trace: Trace) -> None:
    """How every layer shared the tokens."""
    if not trace.has("expert_id"):
        st.info("This trace does not hold the chosen experts.")
        return
    measured = loads.measure(trace)
    figure = load.load_heatmap(measured.ratio, measured.rule, session.theme(), measured.band)
    said = "A row per layer, a column per expert. 1 is a fair share; orange is more, blue less; a dot is beyond chance."
    controls.chart(figure, "explore-load", loads.by_layer(measured), said, chooses=("layer", "expert"))


def table(trace: Trace) -> None:
    """The run as tables."""
    everything = tables.tokens(trace)
    st.dataframe(everything, hide_index=True, height=300)
    with st.container(horizontal=True):
        controls.download_table(everything, "tokens")
        if trace.has("expert_id"):
            controls.download_table(tables.routing(trace), "routing")
