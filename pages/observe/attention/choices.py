"""The widgets of the Attention page: the order of the heads, the part of the map on show, and what a cell shows.

A cell is a rectangle of (query, key) pairs (`model/trace/cells.py`); in a small map, it is one pair.
"""

from typing import NamedTuple

import streamlit as st

from model.trace.cells import Window, cell_sides, whole
from pages.common import heads
from pages.common.runs import Run

SORTS = {"index": None, "entropy": "entropy", "first token": "first_token_share", "distance": "mean_distance"}
STATISTICS = ("largest", "mean")  # weight of the pairs in a cell
RANGES = {"queries": "Queries", "keys": "Keys"}  # widget key -> label


class Selection(NamedTuple):
    """The layer, head, token and part of the map that the page shows."""

    layer: int
    head: int
    token: int
    window: Window
    statistic: str  # one of `STATISTICS`


def sort() -> str:
    """Let the visitor choose the order of the heads; return the choice, a key of `SORTS`."""
    chosen = st.segmented_control(
        "Sort heads by", list(SORTS), default="index", required=True, key="sort", bind="query-params",
        help="Index: the head's number. Entropy: how widely a head spreads its attention, the narrowest first. First "
        "token: how much attention it gives the first token, the most first. Distance: how far back it looks, the "
        "farthest first.",
    )  # fmt: skip
    return chosen or "index"


def window(run: Run) -> Window:
    """Let the visitor choose the part of the map to show, at first the whole map; return the choice."""
    num_tokens = heads.trace_of(run).num_tokens
    if num_tokens < 2:
        return whole(num_tokens)
    _forget_ranges_of_another(run, num_tokens)
    with st.popover(_part_in_words(num_tokens), icon=":material/crop_free:"):
        ends = [
            st.slider(label, 0, num_tokens - 1, (0, num_tokens - 1), key=key, bind="query-params")
            for key, label in RANGES.items()
        ]
        st.caption("Or draw a rectangle on the map.")
    (first, last), (first_key, last_key) = ends
    chosen = Window(first, last + 1, first_key, last_key + 1)
    st.button(
        "Show all",
        on_click=_show_all,
        args=(num_tokens,),
        disabled=chosen == whole(num_tokens),
        icon=":material/fullscreen:",
    )
    return chosen


def statistic(shown: Window) -> str:
    """Let the visitor choose whether a cell shows the largest or the mean weight of its pairs.

    Return the choice, one of `STATISTICS`. If each cell of the map is one pair, draw nothing.
    """
    down, across = cell_sides(shown)
    if down == across == 1:
        return STATISTICS[0]
    chosen = st.segmented_control(
        "Cells", STATISTICS, default=STATISTICS[0], required=True, key="cell", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    st.caption(f"of {down} x {across} pairs in each cell", width="content")
    return chosen or STATISTICS[0]


def _show_all(num_tokens: int) -> None:
    """Set the ranges of queries and keys to all tokens; if they were deleted, the URL would restore the old ranges."""
    st.session_state.update(dict.fromkeys(RANGES, (0, num_tokens - 1)))


def _forget_ranges_of_another(run: Run, num_tokens: int) -> None:
    """Reset the ranges to all tokens if they were chosen for a run other than the run on show."""
    if st.session_state.get("ranges-of", run.number) != run.number:
        _show_all(num_tokens)
    st.session_state["ranges-of"] = run.number


def _part_in_words(num_tokens: int) -> str:
    ends = [st.session_state.get(name) or (0, num_tokens - 1) for name in RANGES]
    if all(tuple(pair) == (0, num_tokens - 1) for pair in ends):
        return "All queries and keys"
    (first, last), (first_key, last_key) = ends
    return f"Queries {first} to {last}, keys {first_key} to {last_key}"
