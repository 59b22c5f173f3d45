"""What the page on tokens shows."""

import streamlit as st

from model.trace.trace import Trace
from pages.common import controls, session, tables
from pages.observe.tokens import tables as token_tables
from viz import boundaries, tokens

SHOWN = 2_000  # chips at a time: more would keep the browser busy
TABLE, PARTS, SIZES = TABS = ("Every token", "Counts by part", "Bytes per token")


def remarks(trace: Trace) -> None:
    """The whole text in a sentence, and what could be mistaken."""
    if not trace.text:
        if all(token.id < 0 for token in trace.tokens):
            st.info("This trace says how many tokens there were, but neither which they were nor their text.")
        else:
            st.info("This trace was made from token ids, without a tokenizer: there are ids, but no text to show.")
        return
    st.markdown(token_tables.summary(trace), help=f"Measured; n = {trace.num_tokens:,} tokens.")
    for said in token_tables.remarks(trace):
        st.caption(said)


def text(trace: Trace) -> int | None:
    """The main figure: the text with its boundaries. Returns the chosen token."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        under = st.segmented_control(
            "Below each token", boundaries.UNDER, default=boundaries.NOTHING, required=True, key="under",
            bind="query-params",
        )  # fmt: skip
        token = controls.locked_token(trace)
        shown = _window(trace, token)
    figure = boundaries.text_with_boundaries(trace.tokens, trace.text, under or boundaries.NOTHING, token, shown)
    st.html(f"<style>{boundaries.CSS}</style>{figure}{boundaries.LEGEND}")
    st.caption("Each shade is one token; point at it for its number, id and bytes. A character is never split.")
    return token


def _window(trace: Trace, token: int | None) -> range:
    """Which tokens to show: all, or of a long text a part to choose, at first the one with the chosen token."""
    starts = list(range(0, trace.num_tokens, SHOWN))
    if len(starts) == 1:
        return range(trace.num_tokens)
    ends = {start: min(start + SHOWN, trace.num_tokens) for start in starts}
    start = st.selectbox(
        "Tokens shown",
        starts,
        index=(token or 0) // SHOWN,
        key=f"shown-{(token or 0) // SHOWN}",
        bind="query-params",
        format_func=lambda start: f"{start:,} to {ends[start] - 1:,} of {trace.num_tokens:,}",
    )
    return range(start, ends[start])


def about(name: str, trace: Trace) -> None:
    """Fill the tab of that name."""
    if name == TABLE:
        table(trace)
    elif name == PARTS:
        parts(trace)
    else:
        sizes(trace)


def table(trace: Trace) -> None:
    """Every token; a row that is chosen is the token."""
    rows = token_tables.by_token(trace)
    st.dataframe(
        rows,
        hide_index=True,
        height=400,
        key="token-table",
        on_select=_take_row,
        selection_mode="single-row",
        column_config={"surprisal (bit)": tables.THREE},
        placeholder="",
    )
    st.caption(
        "Choose a row to choose the token. Under vocabulary, the entry as its file writes it: a byte that cannot be "
        "seen has a letter of its own, a space Ġ. All but the surprisal, which is derived, is measured."
    )
    controls.download_table(rows, "tokens")


def _take_row() -> None:
    rows = (st.session_state.get("token-table") or {}).get("selection", {}).get("rows", [])
    if rows:
        controls.choose(token=int(rows[0]))


def parts(trace: Trace) -> None:
    """Counts of the whole text and its parts."""
    rows = token_tables.by_part(trace)
    columns = {name: tables.THREE for name in ("bytes per token", "characters per token")}
    st.dataframe(rows, hide_index=True, height="content", column_config=columns, placeholder="")
    st.caption(
        "Special tokens count as tokens, but not in what is said per token. A character is what is seen as one, with "
        "its marks. Measured."
    )
    controls.download_table(rows, "token-counts")


def sizes(trace: Trace) -> None:
    """How long the tokens are."""
    counted = token_tables.sizes(trace)[controls.population(trace).values]
    if not counted.any():
        st.info("No token of this kind has text. Choose other tokens.")
        return
    figure = tokens.bytes_per_token(counted, session.theme())
    said = "How many tokens span so many bytes of text. Longer tokens mean fewer of them for the same text. Measured."
    controls.chart(figure, "token-bytes", token_tables.histogram(counted), said)
