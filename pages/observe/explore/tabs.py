"""The tabs of the Explore page."""

from collections.abc import Callable

import streamlit as st

from model.trace import load
from model.trace.imports import origin
from model.trace.trace import Trace
from pages.common import controls, prompt, session, tables, text
from pages.common.menu import page_path
from pages.observe.explore import drafts
from viz import load as figures


def this_token(trace: Trace, token: int) -> None:
    """Show one token, and its experts in every layer."""
    entry = trace.tokens[token]
    part = "generated" if entry.generated else "prompt"
    st.markdown(f"Token **{token}**, id {entry.id}, {entry.end - entry.start} bytes, {part}")
    st.code(text.token(trace, token), language=None)
    if trace.has("expert_id"):
        order = "with their weights as applied, the largest first" if trace.has("gate_weight") else "as recorded"
        st.caption(f"Its experts {order} ({origin.routing_kind(trace)}).")
        st.table(tables.experts(trace, token), hide_index=True, border="horizontal")
        _link_to_decision(token)


def _link_to_decision(token: int) -> None:
    """Draw a link to the Routing page, which shows this token's decision in the layer on show."""
    chosen = {
        name: str(st.session_state[name]) for name in ("layer", "expert") if st.session_state.get(name) is not None
    }
    request = {name: value for name, value in st.query_params.to_dict().items() if name in prompt.RUN_KEYS}
    st.page_link(
        page_path("routing"),
        label="Why these experts?",
        icon=":material/arrow_forward:",
        query_params=request | chosen | {"token": str(token)},
        help="This layer's choice for this token, step by step.",
    )


def next_tokens(trace: Trace, token: int) -> None:
    """List the most probable tokens after this one."""
    if not trace.has("candidate_id"):
        st.info("This trace does not hold the next-token distribution.")
        return
    table = tables.next_tokens(trace, token, session.vocabulary(trace))
    st.caption(
        f"What the model expects after token {token}: its own distribution at temperature 1, without the limits of "
        "top-k and top-p (measured)."
    )
    st.dataframe(table, hide_index=True, column_config=tables.NEXT_TOKENS, height=300, placeholder="")
    controls.download_table(table, "next-tokens")


def all_layers(trace: Trace, token: int) -> None:
    """Draw how every layer's experts share the tokens."""
    if not trace.has("expert_id"):
        st.info("This trace does not hold the chosen experts.")
        return
    measured = load.measure(trace)
    figure = figures.load_heatmap(measured.ratio, measured.rule, session.theme(), measured.band)
    how_to_read = (
        "A row per layer, a column per expert. 1 is a fair share of the tokens; orange is more, blue less. A dot "
        "marks a load that chance alone does not explain."
    )
    table = tables.load_by_layer(measured)
    controls.chart(figure, "explore-load", table, how_to_read, chooses=("layer", "expert"))


def whole_run(trace: Trace, token: int) -> None:
    """Show tables of all tokens and of their routing."""
    rows = tables.tokens(trace)
    st.dataframe(rows, hide_index=True, height=300, column_config={"surprisal (bit)": tables.THREE}, placeholder="")
    with st.container(horizontal=True):
        controls.download_table(tables.with_bytes(trace, rows), "tokens")
        if trace.has("expert_id"):
            controls.download_table(tables.routing(trace), "routing")


TABS: dict[str, Callable[[Trace, int], None]] = {
    "This token": this_token,
    "Next tokens": next_tokens,
    "All layers": all_layers,
    "Drafts": drafts.show,
    "Table": whole_run,
}
