"""The figure of one token's path through the layers; `viz/decision.py` draws the decision of one layer.

Takes labelled arrays (axes `moe_layer, expert, group, rank`) and returns a Plotly figure. A clickable cell has
`customdata` (layer, expert).
"""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from viz.axis import (
    click_layer,
    expert_axis,
    expert_positions,
    grid_points,
    layer_axis,
    layer_labels,
    rows_height,
    spread,
)
from viz.layout import Layout
from viz.theme import Theme, expert_colors, style, translucent

LOST_TO_BIAS = "lost only to the bias"
LOST_TO_GROUP = "lost only to the group limit"
SYMBOLS = {LOST_TO_BIAS: "triangle-up-open", LOST_TO_GROUP: "hash-open"}
LEGEND = {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "itemclick": False, "itemsizing": "constant"}
LEGEND_MARGIN = {"l": 8, "r": 8, "t": 76, "b": 8}  # pixels: two rows of the legend below Plotly's tools


def token_path(
    at: xr.Dataset,
    layout: Layout,
    theme: Theme,
    losers: Mapping[str, xr.DataArray] | None = None,
    focus: tuple[int, int | None] | None = None,
    origin: str = "measured",
) -> go.Figure:
    """Draw one token's path: layers upwards, experts across, with gaps between groups.

    Kept groups are shaded. Selected experts are filled, more opaque with a larger gate weight, and rank 0 is outlined.
    A hollow triangle is an expert that would have been selected without the bias. A hatched cell is an expert that
    would have been selected without the group limit.

    Args:
        at: data of one token: `expert_id` [moe_layer, rank] (-1 is unknown and not drawn) and, if recorded,
            `gate_weight` [moe_layer, rank], `router_score` [moe_layer, expert], `group_kept` [moe_layer, group].
        layout: layout of the router; groups are drawn apart.
        theme: colours.
        losers: masks [moe_layer, expert], computed from recorded scores: key `LOST_TO_BIAS` for the triangles,
            `LOST_TO_GROUP` for the hatched cells.
        focus: layer, and optionally expert, to frame.
        origin: how the numbers came about, such as `measured`; the hover text says it.
    """
    layers, positions = layer_labels(at["expert_id"]), expert_positions(layout)
    size, figure = int(np.clip(420 / layout.num_experts, 6, 14)), go.Figure()
    if "router_score" in at:
        figure.add_trace(_score_map(at["router_score"], positions, theme))
    if "group_kept" in at and layout.num_groups > 1:
        figure.add_trace(_kept_groups(at["group_kept"], positions, theme))
    figure.add_trace(_chosen_marks(at, positions, expert_colors(layout, theme), theme, size))
    for name, mask in (losers or {}).items():
        figure.add_trace(_loser_marks(name, mask.values, positions, theme, size))
    figure.add_trace(_path_hover(at, losers or {}, positions, origin))
    if focus is not None and focus[0] in layers:
        _frame(figure, int(np.flatnonzero(layers == focus[0])[0]), focus[1], positions, theme)
    axes = {"xaxis": expert_axis(layout), "yaxis": layer_axis(layers)}
    look = {"showlegend": True, "legend": LEGEND, "margin": LEGEND_MARGIN}
    return style(figure, theme, rows_height(len(layers), tallest=36) + 52, **look, **axes)


def _frame(figure: go.Figure, row: int, expert: int | None, positions: np.ndarray, theme: Theme) -> None:
    """Add two thin lines around the row of the layer in focus, and a box around the expert in focus."""
    for edge in (row - 0.5, row + 0.5):
        figure.add_hline(edge, line={"color": theme.ink, "width": 1, "dash": "dot"})
    if expert is not None:
        x, half = float(positions[expert]), 0.62
        box = {"x0": x - half, "x1": x + half, "y0": row - 0.46, "y1": row + 0.46}
        figure.add_shape(type="rect", line={"color": theme.ink, "width": 1.5}, **box)


def _score_map(router_score: xr.DataArray, positions: np.ndarray, theme: Theme) -> go.Heatmap:
    # Small affinities are translucent, so that the shade of a kept group stays visible.
    ink = theme.sequential[-2]
    scale = [[0, translucent(ink, 0)], [1, translucent(ink, 0.55)]]
    return go.Heatmap(
        z=spread(router_score.values, positions),
        zmin=0,
        zmax=float(np.nanmax(router_score.values, initial=1e-6)),
        colorscale=scale,
        showscale=False,
        hoverinfo="skip",
        xgap=1 if router_score.sizes["expert"] <= 64 else 0,
        ygap=1,
    )


def _kept_groups(group_kept: xr.DataArray, positions: np.ndarray, theme: Theme) -> go.Scatter:
    """Return a band behind every kept group of every layer, all as one thick line with gaps."""
    size = len(positions) // group_kept.sizes["group"]
    rows, groups = np.nonzero(group_kept.values)
    left, right = positions[groups * size] - 0.6, positions[groups * size + size - 1] + 0.6
    gap = np.full(len(rows), np.nan, dtype=np.float32)
    low, high = np.float32(rows) - 0.46, np.float32(rows) + 0.46
    return go.Scatter(
        x=np.stack([left, right, right, left, left, gap], axis=1).ravel().astype(np.float32),
        y=np.stack([low, low, high, high, low, gap], axis=1).ravel().astype(np.float32),
        mode="lines",
        fill="toself",
        fillcolor=translucent(theme.muted, 0.16),
        line={"color": translucent(theme.muted, 0.5), "width": 1},
        hoverinfo="skip",
        name="kept group",
    )


def _chosen_marks(at: xr.Dataset, positions: np.ndarray, colors: list[str], theme: Theme, size: int) -> go.Scatter:
    rows, ranks = np.nonzero(at["expert_id"].values >= 0)
    experts, weights = at["expert_id"].values[rows, ranks], _weights(at)[rows, ranks]
    known = ~np.isnan(weights)
    strongest = max(float(weights[known].max(initial=0)), 1e-9)
    opacity = np.where(known, 0.3 + 0.7 * np.nan_to_num(weights) / strongest, 1)
    marker = {
        "symbol": "square",
        "size": size,
        "color": [translucent(colors[expert], share) for expert, share in zip(experts, opacity, strict=True)],
        "line": {"color": theme.ink, "width": np.where((ranks == 0) & known, 2, 0)},
    }
    name = "chosen (outlined: largest weight)" if known.any() else "chosen (weights unknown)"
    return go.Scatter(x=positions[experts], y=rows, mode="markers", marker=marker, hoverinfo="skip", name=name)


def _weights(at: xr.Dataset) -> np.ndarray:
    """Return a token's gate weights, [moe_layer, rank]; NaN if not recorded."""
    return at["gate_weight"].values if "gate_weight" in at else np.full(at["expert_id"].shape, np.nan, np.float32)


def _loser_marks(name: str, mask: np.ndarray, positions: np.ndarray, theme: Theme, size: int) -> go.Scatter:
    rows, experts = np.nonzero(mask)
    marker = {"symbol": SYMBOLS[name], "size": size, "color": theme.ink, "line": {"width": 1.5}}
    return go.Scatter(x=positions[experts], y=rows, mode="markers", marker=marker, hoverinfo="skip", name=name)


def _path_hover(at: xr.Dataset, losers: Mapping[str, xr.DataArray], positions: np.ndarray, origin: str) -> go.Scattergl:
    layers, num_experts = layer_labels(at["expert_id"]), len(positions)
    texts = np.full((len(layers), num_experts), "", dtype=object)
    for name, mask in losers.items():
        texts[mask.values] += f"<br>{name} (derived)"
    ids, weights = at["expert_id"].values, _weights(at)
    for row, rank in zip(*np.nonzero(ids >= 0), strict=True):
        weight = weights[row, rank]
        texts[row, ids[row, rank]] += (
            "<br>chosen" if np.isnan(weight) else f"<br>chosen, rank {rank}, weight {weight:.3g}"
        )
    x, y = grid_points(positions, np.arange(len(layers)))
    cells = [np.repeat(layers, num_experts), np.tile(np.arange(num_experts), len(layers))]
    hover = "L%{customdata[0]}E%{customdata[1]}"
    if "router_score" in at:
        cells.append(at["router_score"].values.ravel())
        hover += f"<br>affinity %{{customdata[2]:.3~g}} ({origin})"
    return click_layer(
        x, y, customdata=np.column_stack(cells).astype(np.float32), text=texts.ravel(),
        hovertemplate=hover + "%{text}<extra></extra>", showlegend=False,
    )  # fmt: skip
