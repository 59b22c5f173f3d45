"""The big map of a head, and which part of it is shown.

Plotly's own zoom would only enlarge what the browser has. A rectangle drawn on the map, or a range chosen, makes the
server compute that part anew, pair by pair where it fits.
"""

import functools
import math
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from model.trace.cells import Window, cell_sides, whole
from pages.common import controls, heads, session
from pages.common.head_tables import labels, row_table
from pages.common.runs import Run
from pages.observe.attention import values
from viz import attention as maps

CELL = ("largest", "mean")
RANGES = {"queries": "Queries", "keys": "Keys"}


class Shown(NamedTuple):
    """What of a run the page shows."""

    layer: int
    head: int
    token: int
    window: Window
    of_cell: str  # of `CELL`


def part(run: Run) -> Window:
    """Choose the part of the map that is shown; everything until one is chosen."""
    num_tokens = heads.trace_of(run).num_tokens
    if num_tokens < 2:
        return whole(num_tokens)
    _forget_other_ranges(run, num_tokens)
    with st.popover(_said(num_tokens), icon=":material/crop_free:"):
        ends = [
            st.slider(name, 0, num_tokens - 1, (0, num_tokens - 1), key=key, bind="query-params")
            for key, name in RANGES.items()
        ]
        st.caption("Or draw a rectangle on the map.")
    (first, last), (first_key, last_key) = ends
    window = Window(first, last + 1, first_key, last_key + 1)
    st.button(
        "Show all",
        on_click=_show_all,
        args=(num_tokens,),
        disabled=window == whole(num_tokens),
        icon=":material/fullscreen:",
    )
    return window


def of_cell(window: Window) -> str:
    """Choose what the cells of a map that does not fit say; where it fits, they are single pairs."""
    down, across = cell_sides(window)
    if down == across == 1:
        return CELL[0]
    chosen = st.segmented_control(
        "Cells", CELL, default=CELL[0], required=True, key="cell", bind="query-params", label_visibility="collapsed"
    )
    st.caption(f"of {down} x {across} pairs in each cell", width="content")
    return chosen or CELL[0]


def big(run: Run, shown: Shown) -> None:
    """One head, large."""
    trace, (layer, head, token, window, of_cell) = heads.trace_of(run), shown
    source = heads.origin(trace, layer, head)
    title = f"layer {layer}, head {head}: {source}, n = {trace.num_tokens:,} tokens"
    seen = values.cells(run, layer, head, window)[of_cell]
    figure = maps.attention_map(seen, session.theme(), labels(trace), source, token=token, title=title, of_cell=of_cell)
    said = "A row is a token that looks, a column a token that is looked at; darker (in the dark theme, brighter) is "
    said += "more. A row adds up to 1. A click chooses the row's token; its row and column are framed. A rectangle "
    said += f"drawn on the map is shown larger. The numbers are those of token {token}."
    table = row_table(trace, token, attention=values.row(run, layer, head, token))
    show(figure, "attention-map", window, table, said)


def show(figure: go.Figure, key: str, window: Window, table: pd.DataFrame, how_to_read: str) -> None:
    """A map on which a click chooses a token, and a rectangle the part that is shown.

    A part of a map is a figure of its own: the rectangle that led to it would stay drawn on it otherwise.
    """
    figure.update_layout(dragmode="select")  # Plotly's own zoom would not reach the server
    named = f"{key}-{'-'.join(map(str, window))}"
    controls.chart(figure, named, table, how_to_read, functools.partial(take, named, window), boxes=True)


def take(key: str, window: Window) -> None:
    """Follow what was clicked or drawn on the map of a part."""
    boxes = (st.session_state.get(key) or {}).get("selection", {}).get("box") or []
    if boxes:
        _take_box(boxes[0], window)
    elif clicked := controls.clicked(key):
        chosen = int(clicked[0])
        controls.choose(token=None if chosen == st.session_state.get("token") else chosen)


def _take_box(box: dict[str, list[float]], window: Window) -> None:
    """Show the tokens whose middle lies inside; a rectangle around none is a slip of the hand."""
    shown = {"queries": (box["y"], window[:2]), "keys": (box["x"], window[2:])}
    ranges = {
        name: (max(first, math.ceil(min(side))), min(end - 1, math.floor(max(side))))
        for name, (side, (first, end)) in shown.items()
    }
    if all(first <= last for first, last in ranges.values()):
        st.session_state.update(ranges)


def _show_all(num_tokens: int) -> None:
    """Forgetting the ranges would not do: they would come back from the address."""
    st.session_state.update(dict.fromkeys(RANGES, (0, num_tokens - 1)))


def _forget_other_ranges(run: Run, num_tokens: int) -> None:
    """A range belongs to one run."""
    if st.session_state.get("ranges-of", run.number) != run.number:
        _show_all(num_tokens)
    st.session_state["ranges-of"] = run.number


def _said(num_tokens: int) -> str:
    """The part on show, as a button's text."""
    ends = [st.session_state.get(name) or (0, num_tokens - 1) for name in RANGES]
    if all(tuple(pair) == (0, num_tokens - 1) for pair in ends):
        return "All queries and keys"
    (first, last), (first_key, last_key) = ends
    return f"Queries {first} to {last}, keys {first_key} to {last_key}"
