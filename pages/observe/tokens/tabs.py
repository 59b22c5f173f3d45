"""The tabs of the Tokens page."""

from collections.abc import Callable

import streamlit as st

from model.trace import token_counts
from model.trace.trace import Trace
from pages.common import controls, session
from pages.common import tables as common
from pages.common.tables import THREE
from pages.observe.tokens import tables
from viz import tokens as figures


def every_token(trace: Trace) -> None:
    """List every token; a click on a row chooses the token."""
    rows = tables.by_token(trace)
    st.dataframe(
        rows,
        hide_index=True,
        height=400,
        key="token-table",
        on_select=_take_row,
        selection_mode="single-row",
        column_config={"surprisal (bit)": THREE},
        placeholder="",
    )
    st.caption(
        "Click a row to choose its token. Surprisal: how unexpected the token was to the model (derived; the rest is "
        "measured). Vocabulary: the entry as the tokenizer's file writes it, with letters in place of invisible "
        "bytes, such as Ġ or ▁ for a space."
    )
    controls.download_table(common.with_bytes(trace, rows), "tokens")


def _take_row() -> None:
    rows = (st.session_state.get("token-table") or {}).get("selection", {}).get("rows", [])
    if rows:
        controls.choose(token=int(rows[0]))


def parts(trace: Trace) -> None:
    """Count tokens, bytes and characters of the whole text and its parts."""
    rows = tables.by_part(trace)
    columns = {name: THREE for name in ("bytes per token", "characters per token")}
    st.dataframe(rows, hide_index=True, height="content", column_config=columns, placeholder="")
    st.caption(
        "The means per token leave out special tokens; the number of tokens counts them. A character is what a reader "
        "sees as one sign, with its accents. Measured."
    )
    controls.download_table(rows, "token-counts")


def sizes(trace: Trace) -> None:
    """Draw the number of tokens of each size in bytes."""
    lengths = token_counts.sizes(trace)[controls.population(trace).values]
    if not lengths.any():
        st.info("No token of this kind has text. Choose other tokens.")
        return
    figure = figures.bytes_per_token(lengths, session.theme())
    how_to_read = (
        "How many tokens have 1, 2, ... bytes of text. Longer tokens spell a text with fewer of them. Measured."
    )
    controls.chart(figure, "token-bytes", tables.by_size(lengths), how_to_read)


TABS: dict[str, Callable[[Trace], None]] = {
    "Every token": every_token,
    "Counts by part": parts,
    "Bytes per token": sizes,
}
TABLE, PARTS, SIZES = TABS
