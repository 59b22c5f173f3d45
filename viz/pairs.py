"""Figures of pairs of experts: co-activation within a layer, and transitions from layer to layer.

Takes labelled counts (axes `moe_layer, expert`, and `other_expert` or `next_expert`) and returns Plotly figures. A
clickable cell of a map has `customdata` (row, column); an expert of the graph has (layer, expert).
"""

from collections.abc import Sequence
from typing import Any

import networkx as nx
import numpy as np
import plotly.graph_objects as go
import xarray as xr

from viz.axis import (
    MAX_CLICKABLE,
    click_layer,
    expert_axis,
    expert_positions,
    grid_points,
    group_lines,
    layer_axis,
    layer_labels,
    note,
    rows_height,
)
from viz.layout import Layout
from viz.theme import Theme, colorscale, expert_colors, style, translucent

# The colour bar is above the square map, so that the map keeps the full width of a narrow page.
_BAR = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "len": 0.6, "thickness": 8}
_BAR |= {"tickformat": ".0%", "nticks": 5, "outlinewidth": 0, "ypad": 4}


def coactivation(counts: xr.DataArray, num_tokens: int, layout: Layout, theme: Theme) -> go.Figure:
    """Draw the share of an expert's tokens (row) that were also routed to another expert (column).

    The diagonal, always 1, is left out; rows of experts without tokens are empty.

    Args:
        counts: number of tokens routed to both experts, [expert, other_expert]; the diagonal has each expert's tokens.
        num_tokens: number of all tokens.
        layout: layout of the router.
        theme: colours.
    """
    values = counts.transpose("expert", "other_expert").values
    hover = "E%{customdata[0]} with E%{customdata[1]}<br>%{z:.3~p} of its tokens%{count} (derived)<extra></extra>"
    others = np.where(np.eye(len(values), dtype=bool), np.nan, values)
    figure = _square(others, np.diagonal(values), layout, theme, hover)
    note(figure, f"share of tokens, n = {num_tokens:,} tokens", theme).update_annotations(yshift=36)
    return figure.update_layout(xaxis_title_text="also went to", yaxis_title_text=_title("tokens of", counts))


def transitions(counts: xr.DataArray, layout: Layout, theme: Theme) -> go.Figure:
    """Draw, for each expert (row), the shares of its transitions that lead to each expert of the next MoE layer.

    `counts` [expert, next_expert] has the tokens routed to both; a token counts once for each pair of its experts.
    """
    values = counts.transpose("expert", "next_expert").values
    hover = "E%{customdata[0]} then E%{customdata[1]}<br>%{z:.3~p} of its pairs%{count} (derived)<extra></extra>"
    figure = _square(values, values.sum(1), layout, theme, hover)
    note(figure, f"share of pairs, n = {values.sum():,.0f} pairs", theme).update_annotations(yshift=36)
    following = f"expert, L{counts.coords['next_layer'].item()}" if "next_layer" in counts.coords else "next expert"
    return figure.update_layout(xaxis_title_text=following, yaxis_title_text=_title("expert", counts))


def _title(text: str, counts: xr.DataArray) -> str:
    return f"{text}, L{counts.coords['moe_layer'].item()}" if "moe_layer" in counts.coords else text


def _square(counts: np.ndarray, totals: np.ndarray, layout: Layout, theme: Theme, hover: str) -> go.Figure:
    """Draw `counts` divided by the total of their row; a map with up to `MAX_CLICKABLE` cells is clickable.

    The template `hover` names the share `z` and the count `count`. The hover texts of a larger map have only the share.
    """
    shares = np.full(counts.shape, np.nan, dtype=np.float32)
    np.divide(counts, totals[:, None], out=shares, where=totals[:, None] > 0)
    positions = expert_positions(layout)
    columns = positions.astype(int)
    wide = np.full((columns[-1] + 1, columns[-1] + 1), np.nan, dtype=np.float32)
    wide[np.ix_(columns, columns)] = shares
    heatmap = go.Heatmap(
        z=wide,
        zmin=0,
        zmax=float(np.nanmax(shares, initial=1e-3)),
        colorscale=colorscale(theme.sequential),
        colorbar=_BAR,
        hoverongaps=False,
    )
    figure = go.Figure(heatmap)
    if layout.num_experts**2 <= MAX_CLICKABLE:
        points = _cell_points(counts, totals, shares, positions, hover)
        figure.update_traces(hoverinfo="skip").add_trace(points)
    else:
        cells = np.zeros((*wide.shape, 2), dtype=np.int16)
        cells[np.ix_(columns, columns)] = np.indices(counts.shape).transpose(1, 2, 0)
        figure.update_traces(customdata=cells, hovertemplate=hover.replace("%{count}", ""))
    group_lines(figure, layout, theme, both=True)
    axis = expert_axis(layout) | {"constrain": "domain"}
    across, upwards = axis | {"constraintoward": "left"}, axis | {"scaleanchor": "x", "constraintoward": "top"}
    return style(figure, theme, 500, xaxis=across, yaxis=upwards, margin={"l": 8, "r": 8, "t": 92, "b": 8})


def _cell_points(
    counts: np.ndarray, totals: np.ndarray, shares: np.ndarray, positions: np.ndarray, hover: str
) -> go.Scattergl:
    x, y = grid_points(positions, positions)
    pairs, known = np.indices(counts.shape).reshape(2, -1).T, ~np.isnan(shares.ravel())
    row_totals = np.broadcast_to(totals[:, None], counts.shape)
    cells = np.column_stack([pairs, shares.ravel(), counts.ravel(), row_totals.ravel()]).astype(np.float32)
    hover = hover.replace("%{z", "%{customdata[2]").replace("%{count}", ", %{customdata[3]} of %{customdata[4]}")
    return click_layer(x[known], y[known], customdata=cells[known], hovertemplate=hover)


def transition_graph(
    counts: xr.DataArray,
    layout: Layout,
    theme: Theme,
    num_edges: int = 24,
    focus: tuple[int, int | None] | None = None,
) -> go.Figure:
    """Draw the most frequent transitions between consecutive MoE layers as a graph: layers upwards, experts across.

    Args:
        counts: number of transitions, [moe_layer, expert, next_expert]. `moe_layer` is the earlier layer; the
            coordinate `next_layer` has the number of the later one.
        layout: layout of the router.
        theme: colours.
        num_edges: largest number of edges per pair of consecutive MoE layers, on average.
        focus: layer and expert whose transitions are drawn in the colour of text.
    """
    layers = layer_labels(counts)
    last = counts.coords["next_layer"].values[-1] if "next_layer" in counts.coords else layers[-1] + 1
    layers = np.append(layers, last)
    graph, fewest = common_steps(counts, num_edges)
    centre = None if focus is None or focus[0] not in layers else (int(np.flatnonzero(layers == focus[0])[0]), focus[1])
    positions, colors = expert_positions(layout), expert_colors(layout, theme)
    figure = go.Figure([*_edges(graph, positions, theme, centre), _nodes(graph, positions, colors, layers, theme)])
    height = rows_height(len(layers), tallest=70)
    axes = {"xaxis": expert_axis(layout), "yaxis": layer_axis(layers)}
    style(figure, theme, height, **axes)
    shown = f"transitions of at least {fewest} tokens (derived)" if graph else "no transition has two tokens"
    return note(figure, shown, theme)


def common_steps(counts: xr.DataArray, num_edges: int) -> tuple[nx.DiGraph, int]:
    """Return the most frequent transitions, at most `num_edges` per pair of consecutive MoE layers on average.

    Returns:
        A graph with nodes (layer index, expert) and `count` on its edges; and the smallest count of an edge, 2 or more.
        Transitions with equal counts are kept or dropped together.
    """
    values = counts.transpose("moe_layer", "expert", "next_expert").values
    several = np.argwhere(values >= 2)
    sizes = np.bincount(values[tuple(several.T)].astype(np.int64), minlength=3)
    at_least = np.append(np.cumsum(sizes[::-1])[::-1], 0)  # at n: number of transitions with a count of n or more
    fewest = max(2, int(np.argmax(at_least <= num_edges * len(values))))
    graph = nx.DiGraph()
    for row, expert, following in several[values[tuple(several.T)] >= fewest].tolist():
        graph.add_edge((row, expert), (row + 1, following), count=int(values[row, expert, following]))
    return graph, fewest


def _edges(
    graph: nx.DiGraph, positions: np.ndarray, theme: Theme, centre: tuple[int, int | None] | None, num_widths: int = 4
) -> list[go.Scatter]:
    """Return two traces per line width (a Plotly line has one): edges without the node `centre`, then its edges."""
    edges = list(graph.edges(data="count"))
    strongest = max((count for *_, count in edges), default=1)
    traces = []
    for width in range(1, num_widths + 1):
        group = [(a, b) for a, b, count in edges if int(np.ceil(num_widths * count / strongest)) == width]
        own = [edge for edge in group if centre in edge]
        rest = [edge for edge in group if centre not in edge]
        traces.append(_lines(rest, positions, width, translucent(theme.muted, 0.15 + 0.17 * width)))
        traces.append(_lines(own, positions, width + 0.5, theme.ink))
    return traces


def _lines(edges: Sequence[Any], positions: np.ndarray, width: float, color: str) -> go.Scatter:
    x = np.array([[positions[a[1]], positions[b[1]], np.nan] for a, b in edges], dtype=np.float32).ravel()
    y = np.array([[a[0], b[0], np.nan] for a, b in edges], dtype=np.float32).ravel()
    return go.Scatter(x=x, y=y, mode="lines", line={"width": width, "color": color}, hoverinfo="skip")


def _nodes(graph: nx.DiGraph, positions: np.ndarray, colors: list[str], layers: np.ndarray, theme: Theme) -> go.Scatter:
    nodes = sorted(graph.nodes)
    rows, experts = np.array([row for row, _ in nodes], int), np.array([expert for _, expert in nodes], int)
    text = [_steps(graph, node, layers) for node in nodes]
    marker = {
        "size": 11,
        "color": [colors[expert] for expert in experts],
        "line": {"color": theme.background, "width": 1},
    }
    names = np.stack([layers[rows], experts], axis=1)
    hover = "L%{customdata[0]}E%{customdata[1]}%{text}<extra></extra>"
    return go.Scatter(
        x=positions[experts], y=rows, mode="markers", marker=marker, customdata=names, text=text, hovertemplate=hover
    )


def _steps(graph: nx.DiGraph, node: tuple[int, int], layers: np.ndarray) -> str:
    """Return the three most frequent transitions from a node as a hover text."""
    leaving = sorted(graph.out_edges(node, data="count"), key=lambda edge: -edge[2])[:3]
    return "".join(f"<br>to L{layers[row]}E{expert}: {count} tokens" for _, (row, expert), count in leaving)
