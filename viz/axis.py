"""Parts of several figures: the expert axis with gaps between groups, the layer axis, clickable cells."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from viz.layout import Layout
from viz.theme import Theme

# In cells. A larger map has hover texts but no clickable points: drawing the points would take longer than the map.
MAX_CLICKABLE = 20_000


def expert_positions(layout: Layout) -> np.ndarray:
    """Return the positions of experts on an axis, [expert] float32: 1 apart, with a gap between routing groups."""
    return positions_apart(layout.num_experts, layout.num_groups)


def positions_apart(number: int, num_parts: int) -> np.ndarray:
    """Return the positions of `number` columns, float32: 1 apart, with a gap between `num_parts` equal parts."""
    columns, gap = np.arange(number), 0 if num_parts == 1 else max(1, number // 64)
    return (columns + gap * (columns // (number // num_parts))).astype(np.float32)


def spread(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return a wider float32 array with the columns of `values` [row, column] at `positions`, and NaN elsewhere."""
    wide = np.full((values.shape[0], int(positions[-1]) + 1), np.nan, dtype=np.float32)
    wide[:, positions.astype(int)] = values
    return wide


def expert_axis(layout: Layout, title: str = "expert") -> dict[str, Any]:
    """Return the axis of experts: a tick at the first expert of each group; about eight ticks without groups."""
    number, num_groups = layout.num_experts, layout.num_groups
    step = number // num_groups if num_groups > 1 else max(1, number // 8)
    positions, ticks = expert_positions(layout), np.arange(0, number, step)
    return {
        "tickvals": positions[ticks],
        "ticktext": np.array([f"E{tick}" for tick in ticks]),
        "range": [-0.6, float(positions[-1]) + 0.6],
        "showgrid": False,
        "title": {"text": title},
    }


def layer_labels(values: xr.DataArray) -> np.ndarray:
    """Return the model layer numbers of an array with a `moe_layer` axis; without labels, 0 to n - 1."""
    labelled = "moe_layer" in values.coords
    return values.coords["moe_layer"].values if labelled else np.arange(values.sizes["moe_layer"])


def layer_axis(layers: np.ndarray, title: str = "layer") -> dict[str, Any]:
    """Return the axis of layers, as `row_axis`."""
    return row_axis([f"L{layer}" for layer in layers]) | {"title": {"text": title}}


def row_axis(rows: Sequence[str]) -> dict[str, Any]:
    """Return the axis of named rows, the first at the bottom, with at most 20 names."""
    shown = np.arange(0, len(rows), -(-len(rows) // 20))
    names = np.array([rows[index] for index in shown.tolist()])
    return {"tickvals": shown, "ticktext": names, "range": [-0.6, len(rows) - 0.4], "showgrid": False}


def rows_height(num_rows: int, tallest: int = 28, limit: int = 720) -> int:
    """Return the height in pixels of a figure with `num_rows` rows and an axis: at most `limit` + 110."""
    return 110 + min(limit, max(3, num_rows) * tallest)


def color_bar(title: str, **options: Any) -> dict[str, Any]:
    """Return a narrow colour bar with its unit above it."""
    return {"title": {"text": title, "side": "top"}, "thickness": 10, "outlinewidth": 0} | options


def click_layer(x: np.ndarray, y: np.ndarray, **points: Any) -> go.Scattergl:
    """Return invisible points over a map for its hover text and clicks; Streamlit only reports clicks on points."""
    invisible = {"marker": {"opacity": 0}}
    marker = {"opacity": 0, "size": 10, "symbol": "square"}
    return go.Scattergl(x=x, y=y, mode="markers", marker=marker, selected=invisible, unselected=invisible, **points)


def grid_points(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the coordinates of all cells of a [y, x] map, row by row."""
    across, upwards = np.meshgrid(np.float32(x), np.float32(y))
    return across.ravel(), upwards.ravel()


def group_lines(figure: go.Figure, layout: Layout, theme: Theme, both: bool = False) -> None:
    """Add thin lines between groups along the x axis, and with `both` also along the y axis."""
    positions, size = expert_positions(layout), layout.num_experts // layout.num_groups
    line = {"type": "line", "line": {"color": theme.grid, "width": 1}, "layer": "below"}
    lines = []
    for first in range(size, layout.num_experts, size):
        middle = float(positions[first - 1] + positions[first]) / 2
        lines.append(line | {"x0": middle, "x1": middle, "y0": 0, "y1": 1, "yref": "y domain"})
        if both:
            lines.append(line | {"y0": middle, "y1": middle, "x0": 0, "x1": 1, "xref": "x domain"})
    shapes = [*figure.layout["shapes"], *lines]
    figure.update_layout(shapes=shapes)  # one update for all shapes: a call per shape takes 5 ms each


def note(figure: go.Figure, text: str, theme: Theme) -> go.Figure:
    """Add one line of grey text at the top left, such as the number of tokens."""
    corner = {"xref": "paper", "yref": "paper", "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom"}
    return figure.add_annotation(text=text, showarrow=False, font={"color": theme.muted, "size": 12}, **corner)
