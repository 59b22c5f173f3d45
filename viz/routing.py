"""Pictures of routing: one token's path, which experts work together, what follows what, an expert's weights.

Labelled arrays in (axes `moe_layer, expert, group, rank`), Plotly figures out; nothing is computed that a reader could
take for a measurement. A cell that can be clicked carries `customdata` (layer, expert).
"""

import networkx as nx
import numpy as np
import plotly.graph_objects as go
import xarray as xr

from viz.axis import (
    MAX_CLICKABLE,
    click_layer,
    color_bar,
    expert_axis,
    expert_positions,
    grid_points,
    group_lines,
    layer_axis,
    layer_labels,
    note,
    rows_height,
    spread,
)
from viz.theme import Theme, colorscale, expert_colors, style, translucent

LOST_TO_BIAS = "lost only to the bias"
LOST_TO_GROUP = "lost only to the group limit"


def token_path(
    expert_id: xr.DataArray,
    gate_weight: xr.DataArray,
    router_score: xr.DataArray,
    theme: Theme,
    group_kept: xr.DataArray | None = None,
    lost_to_bias: xr.DataArray | None = None,
    lost_to_group: xr.DataArray | None = None,
    origin: str = "measured",
) -> go.Figure:
    """Why one token went where it went: layers upwards, experts across, groups apart.

    Kept groups are shaded, chosen experts filled with their weight as opacity and rank 0 outlined; an expert that
    lost only to the bias is a hollow triangle, one that lost only to the group limit a hatch.

    Args:
        expert_id: [moe_layer, rank]; -1 is unknown and not drawn.
        gate_weight: [moe_layer, rank].
        router_score: [moe_layer, expert], affinities.
        theme: colours.
        group_kept: [moe_layer, group]; None where the model has no groups or they were not recorded.
        lost_to_bias: mask [moe_layer, expert], *derived*; None leaves the marks out.
        lost_to_group: likewise.
        origin: tag of the numbers on hover.
    """
    num_experts = router_score.sizes["expert"]
    num_groups = 1 if group_kept is None else group_kept.sizes["group"]
    layers, positions = layer_labels(router_score), expert_positions(num_experts, num_groups)
    size = int(np.clip(420 / num_experts, 6, 14))
    masks = {LOST_TO_BIAS: lost_to_bias, LOST_TO_GROUP: lost_to_group}
    figure = go.Figure([_score_map(router_score, num_groups, theme)])
    if group_kept is not None and num_groups > 1:
        figure.add_trace(_kept_groups(group_kept, num_experts, theme))
    figure.add_trace(_chosen_marks(expert_id, gate_weight, positions, num_groups, theme, size))
    for (name, mask), symbol in zip(masks.items(), ("triangle-up-open", "hash-open"), strict=True):
        if mask is not None:
            figure.add_trace(_loser_marks(name, mask.values, positions, symbol, theme, size))
    figure.add_trace(_path_hover(expert_id, gate_weight, router_score, masks, positions, origin))
    style(
        figure,
        theme,
        rows_height(len(layers)),
        xaxis=expert_axis(num_experts, num_groups),
        yaxis=layer_axis(layers),
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "itemclick": False, "itemsizing": "constant"},
    )
    return figure


def _score_map(router_score: xr.DataArray, num_groups: int, theme: Theme) -> go.Heatmap:
    # Translucent at the low end, so that the shade of a kept group is seen through a small affinity.
    ink = theme.sequential[-2]
    scale = [[0, translucent(ink, 0)], [1, translucent(ink, 0.55)]]
    return go.Heatmap(
        z=spread(router_score.values, num_groups),
        zmin=0,
        zmax=float(np.nanmax(router_score.values, initial=1e-6)),
        colorscale=scale,
        showscale=False,
        hoverinfo="skip",
        xgap=1 if router_score.sizes["expert"] <= 64 else 0,
        ygap=1,
    )


def _kept_groups(group_kept: xr.DataArray, num_experts: int, theme: Theme) -> go.Scatter:
    """A closed band behind every kept group of every layer, all of them one line broken by gaps."""
    num_groups = group_kept.sizes["group"]
    edges, size = expert_positions(num_experts, num_groups), num_experts // num_groups
    rows, groups = np.nonzero(group_kept.values)
    left, right = edges[groups * size] - 0.6, edges[groups * size + size - 1] + 0.6
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


def _chosen_marks(
    expert_id: xr.DataArray,
    gate_weight: xr.DataArray,
    positions: np.ndarray,
    num_groups: int,
    theme: Theme,
    size: int,
) -> go.Scatter:
    rows, ranks = np.nonzero(expert_id.values >= 0)
    experts, weights = expert_id.values[rows, ranks], np.nan_to_num(gate_weight.values[rows, ranks], nan=1.0)
    strongest = max(float(weights.max(initial=0)), 1e-9)
    colors = expert_colors(len(positions), num_groups, theme)
    opacity = 0.3 + 0.7 * weights / strongest
    return go.Scatter(
        x=positions[experts],
        y=rows,
        mode="markers",
        marker={
            "symbol": "square",
            "size": size,
            "color": [translucent(colors[expert], share) for expert, share in zip(experts, opacity, strict=True)],
            "line": {"color": theme.ink, "width": np.where(ranks == 0, 2, 0)},
        },
        hoverinfo="skip",
        name="chosen (outlined: largest weight)",
    )


def _loser_marks(
    name: str, mask: np.ndarray, positions: np.ndarray, symbol: str, theme: Theme, size: int
) -> go.Scatter:
    rows, experts = np.nonzero(mask)
    marker = {"symbol": symbol, "size": size, "color": theme.ink, "line": {"width": 1.5}}
    return go.Scatter(x=positions[experts], y=rows, mode="markers", marker=marker, hoverinfo="skip", name=name)


def _path_hover(
    expert_id: xr.DataArray,
    gate_weight: xr.DataArray,
    router_score: xr.DataArray,
    masks: dict[str, xr.DataArray | None],
    positions: np.ndarray,
    origin: str,
) -> go.Scattergl:
    layers, num_experts = layer_labels(router_score), len(positions)
    verdict = np.full(router_score.shape, "", dtype=object)
    for name, mask in masks.items():
        if mask is not None:
            verdict[mask.values] += f"<br>{name} (derived)"
    for row, rank in zip(*np.nonzero(expert_id.values >= 0), strict=True):
        weight = gate_weight.values[row, rank]
        verdict[row, expert_id.values[row, rank]] = f"<br>chosen, rank {rank}, weight {weight:.3g}"
    x, y = grid_points(positions, np.arange(len(layers)))
    names = np.stack([np.repeat(layers, num_experts), np.tile(np.arange(num_experts), len(layers))], axis=1)
    return click_layer(
        x,
        y,
        customdata=np.column_stack([names, router_score.values.ravel()]).astype(np.float32),
        text=verdict.ravel(),
        hovertemplate="L%{customdata[0]}E%{customdata[1]}<br>affinity %{customdata[2]:.3~g} "
        f"({origin})%{{text}}<extra></extra>",
        showlegend=False,
    )


def coactivation(shares: xr.DataArray, num_groups: int, theme: Theme) -> go.Figure:
    """Of the tokens of an expert (row), the share that also went to another (column), [expert, other_expert].

    The diagonal, always 1, is left out; rows of experts without tokens are empty.
    """
    values = shares.transpose("expert", "other_expert").values.astype(np.float32)
    values = np.where(np.eye(len(values), dtype=bool), np.nan, values)
    hover = "E%{customdata[0]} with E%{customdata[1]}<br>%{customdata[2]:.3~p} of its tokens (derived)<extra></extra>"
    figure = _square(values, num_groups, theme, hover, "share")
    return figure.update_layout(xaxis_title_text="also went to", yaxis_title_text="tokens of")


def transitions(counts: xr.DataArray, num_groups: int, theme: Theme) -> go.Figure:
    """Of an expert's (row) pairs with the next mixture layer, the share of each expert there, [expert, next_expert]."""
    values = counts.transpose("expert", "next_expert").values.astype(np.float32)
    totals = values.sum(1, keepdims=True)
    shares = np.divide(values, totals, out=np.full_like(values, np.nan), where=totals > 0)
    hover = "E%{customdata[0]} then E%{customdata[1]}<br>%{customdata[2]:.3~p} of its pairs (derived)<extra></extra>"
    figure = _square(shares, num_groups, theme, hover, "share")
    note(figure, f"n = {values.sum():,.0f} pairs", theme)
    source = f"expert, L{counts.coords['moe_layer'].item()}" if "moe_layer" in counts.coords else "expert"
    return figure.update_layout(xaxis_title_text="expert, next mixture layer", yaxis_title_text=source)


def _square(values: np.ndarray, num_groups: int, theme: Theme, hover: str, unit: str) -> go.Figure:
    """Shares of experts by experts; cells are points that can be clicked as long as they are few enough."""
    num_experts, positions = len(values), expert_positions(len(values), num_groups)
    places = positions.astype(int)
    wide = np.full((places[-1] + 1, places[-1] + 1), np.nan, dtype=np.float32)
    wide[np.ix_(places, places)] = values
    picture = go.Heatmap(
        z=wide,
        zmin=0,
        zmax=float(np.nanmax(values, initial=1e-3)),
        colorscale=colorscale(theme.sequential),
        colorbar=color_bar(unit, tickformat=".0%"),
        hoverongaps=False,
    )
    figure = go.Figure(picture)
    if num_experts**2 <= MAX_CLICKABLE:
        figure.update_traces(hoverinfo="skip").add_trace(_cell_points(values, positions, hover))
    else:
        cells = np.zeros((*wide.shape, 2), dtype=np.int16)
        cells[np.ix_(places, places)] = np.indices(values.shape).transpose(1, 2, 0)
        figure.update_traces(customdata=cells, hovertemplate=hover.replace("customdata[2]", "z"))
    group_lines(figure, num_experts, num_groups, theme, both=True)
    axis = expert_axis(num_experts, num_groups) | {"constrain": "domain"}
    return style(figure, theme, 460, xaxis=axis, yaxis=axis | {"scaleanchor": "x"})


def _cell_points(values: np.ndarray, positions: np.ndarray, hover: str) -> go.Scattergl:
    x, y = grid_points(positions, positions)
    pairs = np.indices(values.shape).reshape(2, -1).T
    cells = np.column_stack([pairs, values.ravel()]).astype(np.float32)
    known = ~np.isnan(values.ravel())
    return click_layer(x[known], y[known], customdata=cells[known], hovertemplate=hover)


def transition_graph(counts: xr.DataArray, num_groups: int, theme: Theme, num_edges: int = 24) -> go.Figure:
    """The strongest steps from layer to layer as a graph, layers upwards, experts across.

    Args:
        counts: [moe_layer, expert, next_expert], pairs; `moe_layer` is the earlier of the two layers.
        num_groups: routing groups.
        theme: colours.
        num_edges: so many edges per pair of layers at most, the largest ones.
    """
    num_experts, layers = counts.sizes["expert"], layer_labels(counts)
    layers = np.append(layers, layers[-1] + 1)
    graph = strongest_steps(counts, num_edges)
    positions, colors = expert_positions(num_experts, num_groups), expert_colors(num_experts, num_groups, theme)
    figure = go.Figure([*_edges(graph, positions, theme), _nodes(graph, positions, colors, layers, theme)])
    height = rows_height(len(layers), tallest=70)
    axes = {"xaxis": expert_axis(num_experts, num_groups), "yaxis": layer_axis(layers)}
    style(figure, theme, height, **axes)
    return note(figure, f"the {num_edges} strongest steps between two layers (derived)", theme)


def strongest_steps(counts: xr.DataArray, num_edges: int) -> nx.DiGraph:
    """Largest entries of [moe_layer, expert, next_expert] as a graph of (row, expert) nodes with `share` on edges."""
    graph = nx.DiGraph()
    for row, matrix in enumerate(counts.transpose("moe_layer", "expert", "next_expert").values):
        total = max(int(matrix.sum()), 1)
        largest = np.argsort(-matrix, axis=None, kind="stable")[:num_edges]
        for expert, following in zip(*np.unravel_index(largest, matrix.shape), strict=True):
            if matrix[expert, following] > 0:
                step = (row, int(expert)), (row + 1, int(following))
                graph.add_edge(
                    *step, count=int(matrix[expert, following]), share=float(matrix[step[0][1], following] / total)
                )
    return graph


def _edges(graph: nx.DiGraph, positions: np.ndarray, theme: Theme, num_widths: int = 4) -> list[go.Scatter]:
    """One line trace per width, because a Plotly line has a single width."""
    edges = list(graph.edges(data="share"))
    strongest = max((share for *_, share in edges), default=1.0)
    traces = []
    for width in range(1, num_widths + 1):
        chosen = [(a, b) for a, b, share in edges if int(np.ceil(num_widths * share / strongest)) == width]
        x = np.array([[positions[a[1]], positions[b[1]], np.nan] for a, b in chosen], dtype=np.float32).ravel()
        y = np.array([[a[0], b[0], np.nan] for a, b in chosen], dtype=np.float32).ravel()
        line = {"width": width, "color": translucent(theme.muted, 0.15 + 0.17 * width)}
        traces.append(go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip"))
    return traces


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
    """The three strongest steps that leave a node, for its hover."""
    leaving = sorted(graph.out_edges(node, data="count"), key=lambda edge: -edge[2])[:3]
    return "".join(f"<br>to L{layers[row]}E{expert}: {count} pairs" for _, (row, expert), count in leaving)


def weight_distribution(weights: xr.DataArray, color: str, theme: Theme, num_bins: int = 24) -> go.Figure:
    """How strongly an expert was weighted by the tokens that chose it.

    Args:
        weights: gate weights, any shape; NaN is unknown and left out.
        color: the expert's colour.
        theme: colours.
        num_bins: bars between 0 and the largest weight.
    """
    known = weights.values[~np.isnan(weights.values)].ravel()
    counts, edges = np.histogram(known, bins=num_bins, range=(0, max(float(known.max(initial=0)), 1e-6)))
    middle, width = (edges[:-1] + edges[1:]) / 2, edges[1] - edges[0]
    hover = "weight %{customdata[0]:.3~g} to %{customdata[1]:.3~g}<br>%{y} tokens<extra></extra>"
    bounds = np.column_stack([edges[:-1], edges[1:]]).astype(np.float32)
    bars = go.Bar(x=middle, y=counts, width=width * 0.92, marker_color=color, customdata=bounds, hovertemplate=hover)
    figure = style(go.Figure(bars), theme, 220, xaxis={"title": {"text": "gate weight"}, "showgrid": False})
    figure.update_yaxes(title_text="tokens", rangemode="tozero")
    said = f"n = {len(known):,} tokens, median {np.median(known):.3g}" if len(known) else "no token went here"
    return note(figure, said, theme)
