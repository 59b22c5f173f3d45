"""The large map of a head. A click on it chooses a token; a rectangle chooses the part of the map on show.

Plotly's own zoom would only enlarge the cells that the browser has. After a rectangle is drawn, the server computes
that part of the map again; a cell of a small part is one pair of query and key.
"""

import functools
import math

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from model.trace.cells import Window
from model.trace.derived import derived
from pages.common import controls, heads, session, tables, text
from pages.common.runs import Run
from pages.observe.attention import values
from pages.observe.attention.choices import Selection
from viz import attention as figures


def one_head(run: Run, chosen: Selection) -> None:
    """Draw the large map of the chosen head."""
    trace, (layer, head, token, window, statistic) = heads.trace_of(run), chosen
    source = heads.origin(trace, layer, head)
    title = f"layer {layer}, head {head}: {source}, n = {trace.num_tokens:,} tokens"
    cells, look = values.cells(run, layer, head, window)[statistic], session.theme()
    figure = derived(trace, ("attention map", chosen, look), lambda: figures.attention_map(
        cells, look, text.token_labels(trace), source, token=token, title=title, of_cell=statistic
    ))  # fmt: skip
    how_to_read = (
        "A row is a token that looks, a column a token that it looks at. Darker (in the dark theme, brighter) is more "
        "attention; a row adds up to 1, or to less where a head has a sink or reads entries for several tokens. Click "
        "to choose the row's token: a frame marks its row and column. Draw a "
        f"rectangle to enlarge a part. The table shows token {token}."
    )
    table = tables.keys_of(trace, token, attention=values.row(run, layer, head, token))
    show(figure, "attention-map", chosen, table, how_to_read)


def show(figure: go.Figure, key: str, chosen: Selection, table: pd.DataFrame, how_to_read: str) -> None:
    """Show a map on which a click chooses a token, and a rectangle chooses the part of the map on show.

    The widget key differs between parts of a map. With one key, the rectangle would stay drawn on the new part.
    """
    figure.update_layout(dragmode="select")  # Plotly's zoom would only enlarge the cells that the browser has
    window = chosen.window
    chart_key = f"{key}-{'-'.join(map(str, window))}"
    on_select = functools.partial(take, chart_key, window)
    controls.chart(figure, chart_key, table, how_to_read, on_select, boxes=True, layer=chosen.layer)


def take(key: str, window: Window) -> None:
    """Set the token from a click on the map, or the part on show from a rectangle. A callback."""
    boxes = (st.session_state.get(key) or {}).get("selection", {}).get("box") or []
    if boxes:
        _take_box(boxes[0], window)
    elif clicked := controls.clicked(key):
        token = int(clicked[0])
        controls.choose(token=None if token == st.session_state.get("token") else token)


def _take_box(box: dict[str, list[float]], window: Window) -> None:
    """Set the ranges to the queries and keys whose centres are inside the rectangle; without any, keep the ranges."""
    sides = {"queries": (box["y"], window[:2]), "keys": (box["x"], window[2:])}
    ranges = {
        name: (max(first, math.ceil(min(side))), min(end - 1, math.floor(max(side))))
        for name, (side, (first, end)) in sides.items()
    }
    if all(first <= last for first, last in ranges.values()):
        st.session_state.update(ranges)
