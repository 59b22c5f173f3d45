"""Pictures of routing: one token's path, one layer's decision, which experts work together, what follows what.

Labelled arrays in (axes `moe_layer, expert, group, rank`), Plotly figures out; nothing is computed that a reader could
take for a measurement. A cell that can be clicked carries `customdata` (layer, expert), in a square (row, column).
"""

from collections.abc import Mapping, Sequence
from typing import Any

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
SYMBOLS = {LOST_TO_BIAS: "triangle-up-open", LOST_TO_GROUP: "hash-open"}
LEGEND = {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "itemclick": False, "itemsizing": "constant"}
LEGEND_MARGIN = {"l": 8, "r": 8, "t": 76, "b": 8}  # room for two rows of it below the tool bar


def token_path(
    at: xr.Dataset,
    num_experts: int,
    num_groups: int,
    theme: Theme,
    losers: Mapping[str, xr.DataArray] | None = None,
    focus: tuple[int, int | None] | None = None,
    origin: str = "measured",
) -> go.Figure:
    """Why one token went where it went: layers upwards, experts across, groups apart.

    Kept groups are shaded, chosen experts filled with their weight as opacity and rank 0 outlined; an expert that
    lost only to the bias is a hollow triangle, one that lost only to the group limit a hatch.

    Args:
        at: of one token: `expert_id` [moe_layer, rank] (-1 is unknown and not drawn) and, as far as recorded,
            `gate_weight` likewise, `router_score` [moe_layer, expert], `group_kept` [moe_layer, group].
        num_experts: routed experts of the model.
        num_groups: routing groups.
        theme: colours.
        losers: `LOST_TO_BIAS` or `LOST_TO_GROUP` -> mask [moe_layer, expert], *derived*.
        focus: layer, and perhaps expert, that other pictures are about; framed.
        origin: tag of the numbers on hover.
    """
    layers, positions = layer_labels(at["expert_id"]), expert_positions(num_experts, num_groups)
    size, figure = int(np.clip(420 / num_experts, 6, 14)), go.Figure()
    if "router_score" in at:
        figure.add_trace(_score_map(at["router_score"], num_groups, theme))
    if "group_kept" in at and num_groups > 1:
        figure.add_trace(_kept_groups(at["group_kept"], num_experts, theme))
    figure.add_trace(_chosen_marks(at, positions, num_groups, theme, size))
    for name, mask in (losers or {}).items():
        figure.add_trace(_loser_marks(name, mask.values, positions, theme, size))
    figure.add_trace(_path_hover(at, losers or {}, positions, origin))
    if focus is not None and focus[0] in layers:
        _frame(figure, int(np.flatnonzero(layers == focus[0])[0]), focus[1], positions, theme)
    axes = {"xaxis": expert_axis(num_experts, num_groups), "yaxis": layer_axis(layers)}
    look = {"showlegend": True, "legend": LEGEND, "margin": LEGEND_MARGIN}
    return style(figure, theme, rows_height(len(layers), tallest=36) + 52, **look, **axes)


def _frame(figure: go.Figure, row: int, expert: int | None, positions: np.ndarray, theme: Theme) -> None:
    """Two thin lines round the row of the layer that is in focus, and a box round its expert."""
    for edge in (row - 0.5, row + 0.5):
        figure.add_hline(edge, line={"color": theme.ink, "width": 1, "dash": "dot"})
    if expert is not None:
        x, half = float(positions[expert]), 0.62
        box = {"x0": x - half, "x1": x + half, "y0": row - 0.46, "y1": row + 0.46}
        figure.add_shape(type="rect", line={"color": theme.ink, "width": 1.5}, **box)


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


def _chosen_marks(at: xr.Dataset, positions: np.ndarray, num_groups: int, theme: Theme, size: int) -> go.Scatter:
    rows, ranks = np.nonzero(at["expert_id"].values >= 0)
    experts, weights = at["expert_id"].values[rows, ranks], _weights(at)[rows, ranks]
    known = ~np.isnan(weights)
    strongest = max(float(weights[known].max(initial=0)), 1e-9)
    colors = expert_colors(len(positions), num_groups, theme)
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
    """Weights of a token's slots, [moe_layer, rank]; NaN where not recorded."""
    return at["gate_weight"].values if "gate_weight" in at else np.full(at["expert_id"].shape, np.nan, np.float32)


def _loser_marks(name: str, mask: np.ndarray, positions: np.ndarray, theme: Theme, size: int) -> go.Scatter:
    rows, experts = np.nonzero(mask)
    marker = {"symbol": SYMBOLS[name], "size": size, "color": theme.ink, "line": {"width": 1.5}}
    return go.Scatter(x=positions[experts], y=rows, mode="markers", marker=marker, hoverinfo="skip", name=name)


def _path_hover(at: xr.Dataset, losers: Mapping[str, xr.DataArray], positions: np.ndarray, origin: str) -> go.Scattergl:
    layers, num_experts = layer_labels(at["expert_id"]), len(positions)
    said = np.full((len(layers), num_experts), "", dtype=object)
    if "router_score" in at:
        scores = [f"<br>affinity {score:.3g} ({origin})" for score in at["router_score"].values.ravel().tolist()]
        said = np.array(scores, dtype=object).reshape(said.shape)
    for name, mask in losers.items():
        said[mask.values] += f"<br>{name} (derived)"
    ids, weights = at["expert_id"].values, _weights(at)
    for row, rank in zip(*np.nonzero(ids >= 0), strict=True):
        weight = weights[row, rank]
        said[row, ids[row, rank]] += (
            "<br>chosen" if np.isnan(weight) else f"<br>chosen, rank {rank}, weight {weight:.3g}"
        )
    x, y = grid_points(positions, np.arange(len(layers)))
    names = np.stack([np.repeat(layers, num_experts), np.tile(np.arange(num_experts), len(layers))], axis=1)
    hover = "L%{customdata[0]}E%{customdata[1]}%{text}<extra></extra>"
    return click_layer(x, y, customdata=names, text=said.ravel(), hovertemplate=hover, showlegend=False)


def decision(
    choice: xr.Dataset, num_groups: int, theme: Theme, losers: Mapping[str, xr.DataArray] | None = None
) -> go.Figure:
    """How one layer decided for one token: every expert's affinity, what the bias makes of it, and the score to beat.

    Args:
        choice: [expert] arrays `affinity`, `biased` (affinity plus bias, relative to the layer's mean bias),
            `chosen` (bool); `kept` [group] bool where groups were recorded; `entry`, the lowest chosen biased score.
            Scalar coordinate `moe_layer`.
        num_groups: routing groups.
        theme: colours.
        losers: `LOST_TO_BIAS` or `LOST_TO_GROUP` -> mask [expert], *derived*.
    """
    num_experts, layer = choice.sizes["expert"], int(choice.coords["moe_layer"])
    positions, chosen = expert_positions(num_experts, num_groups), choice["chosen"].values
    affinity, biased = choice["affinity"].values, choice["biased"].values
    size = int(np.clip(420 / num_experts, 6, 12))
    colors = np.array(expert_colors(num_experts, num_groups, theme))
    figure = go.Figure([_pushes(affinity, biased, positions, theme)])
    hollow = {"symbol": "circle-open", "size": 6, "color": theme.muted}
    dots = {"symbol": "circle", "size": 6, "color": theme.muted}
    filled = {"symbol": "square", "size": size, "color": colors[chosen]}
    figure.add_trace(_points(positions, affinity, hollow, "affinity"))
    figure.add_trace(_points(positions[~chosen], biased[~chosen], dots, "with bias: not chosen"))
    figure.add_trace(_points(positions[chosen], biased[chosen], filled, "with bias: chosen"))
    for name, mask in (losers or {}).items():
        ring = {"symbol": SYMBOLS[name], "size": size + 3, "color": theme.ink, "line": {"width": 1.5}}
        figure.add_trace(_points(positions[mask.values], biased[mask.values], ring, name))
    figure.add_trace(_decision_hover(choice, positions, layer))
    figure.add_hline(float(choice["entry"]), line={"color": theme.ink, "width": 1, "dash": "dash"})
    if "kept" in choice and num_groups > 1:
        _shade_groups(figure, choice["kept"].values, positions, theme)
    axes = {"xaxis": expert_axis(num_experts, num_groups), "yaxis": {"title": {"text": "score"}}}
    return style(figure, theme, 372, showlegend=True, legend=LEGEND, margin=LEGEND_MARGIN, **axes)


def _points(x: np.ndarray, y: np.ndarray, marker: dict[str, Any], name: str) -> go.Scatter:
    return go.Scatter(x=x, y=y, mode="markers", marker=marker, hoverinfo="skip", name=name)


def _pushes(affinity: np.ndarray, biased: np.ndarray, positions: np.ndarray, theme: Theme) -> go.Scatter:
    """A line from every affinity to its biased score, all of them one trace."""
    gap = np.full(len(positions), np.nan)
    x = np.stack([positions, positions, gap], axis=1).astype(np.float32).ravel()
    y = np.stack([affinity, biased, gap], axis=1).astype(np.float32).ravel()
    line = {"color": translucent(theme.muted, 0.7), "width": 1.5}
    return go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)


def _decision_hover(choice: xr.Dataset, positions: np.ndarray, layer: int) -> go.Scattergl:
    """What is hovered and clicked lies on the biased scores."""
    affinity, biased = choice["affinity"].values, choice["biased"].values
    cells = np.column_stack([np.full(len(positions), layer), np.arange(len(positions)), affinity, biased - affinity])
    hover = "L%{customdata[0]}E%{customdata[1]}<br>affinity %{customdata[2]:.3~g} (measured)"
    hover += "<br>bias %{customdata[3]:+.3~g} against the mean (derived)<br>%{text}<extra></extra>"
    text = np.where(choice["chosen"].values, "chosen", "not chosen")
    return click_layer(
        positions, biased, customdata=cells.astype(np.float32), text=text, hovertemplate=hover, showlegend=False
    )


def _shade_groups(figure: go.Figure, kept: np.ndarray, positions: np.ndarray, theme: Theme) -> None:
    size = len(positions) // len(kept)
    for group in np.flatnonzero(kept).tolist():
        first, last = float(positions[group * size]), float(positions[group * size + size - 1])
        fill = {"fillcolor": translucent(theme.muted, 0.16), "line": {"width": 0}, "layer": "below"}
        figure.add_vrect(first - 0.6, last + 0.6, **fill)


def coactivation(counts: xr.DataArray, num_tokens: int, num_groups: int, theme: Theme) -> go.Figure:
    """Of the tokens of an expert (row), the share that also went to another (column).

    The diagonal, always 1, is left out; rows of experts without tokens are empty.

    Args:
        counts: [expert, other_expert], tokens of both; on the diagonal those of the expert.
        num_tokens: tokens that were counted.
        num_groups: routing groups.
        theme: colours.
    """
    values = counts.transpose("expert", "other_expert").values
    hover = "E%{customdata[0]} with E%{customdata[1]}<br>%{customdata[3]} of its %{customdata[4]} tokens, "
    hover += "%{customdata[2]:.3~p} (derived)<extra></extra>"
    others = np.where(np.eye(len(values), dtype=bool), np.nan, values)
    figure = note(_square(others, np.diagonal(values), num_groups, theme, hover), f"n = {num_tokens:,} tokens", theme)
    return figure.update_layout(xaxis_title_text="also went to", yaxis_title_text=_title("tokens of", counts))


def transitions(counts: xr.DataArray, num_groups: int, theme: Theme) -> go.Figure:
    """Of an expert's (row) pairs with the next mixture layer, the share of each expert there, [expert, next_expert]."""
    values = counts.transpose("expert", "next_expert").values
    hover = "E%{customdata[0]} then E%{customdata[1]}<br>%{customdata[3]} of its %{customdata[4]} pairs, "
    hover += "%{customdata[2]:.3~p} (derived)<extra></extra>"
    figure = _square(values, values.sum(1), num_groups, theme, hover)
    note(figure, f"n = {values.sum():,.0f} pairs", theme)
    following = f"expert, L{counts.coords['next_layer'].item()}" if "next_layer" in counts.coords else "next expert"
    return figure.update_layout(xaxis_title_text=following, yaxis_title_text=_title("expert", counts))


def _title(said: str, counts: xr.DataArray) -> str:
    return f"{said}, L{counts.coords['moe_layer'].item()}" if "moe_layer" in counts.coords else said


def _square(
    counts: np.ndarray, totals: np.ndarray, num_groups: int, theme: Theme, hover: str, unit: str = "share"
) -> go.Figure:
    """Counts over each row's total; cells are points that can be clicked as long as they are few enough.

    Points carry row, column, share, count and total.
    """
    shares = np.full(counts.shape, np.nan, dtype=np.float32)
    np.divide(counts, totals[:, None], out=shares, where=totals[:, None] > 0)
    num_experts, positions = len(counts), expert_positions(len(counts), num_groups)
    places = positions.astype(int)
    wide = np.full((places[-1] + 1, places[-1] + 1), np.nan, dtype=np.float32)
    wide[np.ix_(places, places)] = shares
    picture = go.Heatmap(
        z=wide,
        zmin=0,
        zmax=float(np.nanmax(shares, initial=1e-3)),
        colorscale=colorscale(theme.sequential),
        colorbar=color_bar(unit, tickformat=".0%"),
        hoverongaps=False,
    )
    figure = go.Figure(picture)
    pairs = np.indices(counts.shape).reshape(2, -1).T
    everything = np.broadcast_to(totals[:, None], counts.shape)
    cells = np.column_stack([pairs, shares.ravel(), counts.ravel(), everything.ravel()]).astype(np.float32)
    if num_experts**2 <= MAX_CLICKABLE:
        x, y = grid_points(positions, positions)
        known = ~np.isnan(shares.ravel())
        points = click_layer(x[known], y[known], customdata=cells[known], hovertemplate=hover)
        figure.update_traces(hoverinfo="skip").add_trace(points)
    else:
        spaced = np.zeros((*wide.shape, 5), dtype=np.float32)
        spaced[np.ix_(places, places)] = cells.reshape(*counts.shape, 5)
        figure.update_traces(customdata=spaced, hovertemplate=hover)
    group_lines(figure, num_experts, num_groups, theme, both=True)
    axis = expert_axis(num_experts, num_groups) | {"constrain": "domain"}
    return style(figure, theme, 460, xaxis=axis, yaxis=axis | {"scaleanchor": "x"})


def transition_graph(
    counts: xr.DataArray,
    num_groups: int,
    theme: Theme,
    num_edges: int = 24,
    focus: tuple[int, int | None] | None = None,
) -> go.Figure:
    """The commonest steps from layer to layer as a graph, layers upwards, experts across.

    Args:
        counts: [moe_layer, expert, next_expert], pairs; `moe_layer` is the earlier of the two layers, the coordinate
            `next_layer` labels the later one.
        num_groups: routing groups.
        theme: colours.
        num_edges: so many edges per pair of layers on average, at most.
        focus: layer and expert whose own steps are drawn in ink.
    """
    num_experts, layers = counts.sizes["expert"], layer_labels(counts)
    last = counts.coords["next_layer"].values[-1] if "next_layer" in counts.coords else layers[-1] + 1
    layers = np.append(layers, last)
    graph, fewest = common_steps(counts, num_edges)
    centre = None if focus is None or focus[0] not in layers else (int(np.flatnonzero(layers == focus[0])[0]), focus[1])
    positions, colors = expert_positions(num_experts, num_groups), expert_colors(num_experts, num_groups, theme)
    figure = go.Figure([*_edges(graph, positions, theme, centre), _nodes(graph, positions, colors, layers, theme)])
    height = rows_height(len(layers), tallest=70)
    axes = {"xaxis": expert_axis(num_experts, num_groups), "yaxis": layer_axis(layers)}
    style(figure, theme, height, **axes)
    said = f"steps that at least {fewest} tokens took (derived)" if graph else "no step was taken by two tokens"
    return note(figure, said, theme)


def common_steps(counts: xr.DataArray, num_edges: int) -> tuple[nx.DiGraph, int]:
    """Steps taken by so many tokens that at most `num_edges` per pair of layers remain on average.

    Returns:
        A graph of (row, expert) nodes with `count` on edges, and the fewest tokens that an edge stands for, 2 or more:
        ties are never cut by the number of the expert.
    """
    values = counts.transpose("moe_layer", "expert", "next_expert").values
    at_least = np.cumsum(np.bincount(values.ravel().astype(np.int64), minlength=3)[::-1])[::-1]  # [count] entries
    fewest = max(2, int(np.argmax(np.append(at_least, 0) <= num_edges * len(values))))
    graph = nx.DiGraph()
    for row, expert, following in np.argwhere(values >= fewest).tolist():
        graph.add_edge((row, expert), (row + 1, following), count=int(values[row, expert, following]))
    return graph, fewest


def _edges(
    graph: nx.DiGraph, positions: np.ndarray, theme: Theme, centre: tuple[int, int | None] | None, num_widths: int = 4
) -> list[go.Scatter]:
    """One line trace per width, because a Plotly line has a single width, and as many for the steps of the centre."""
    edges = list(graph.edges(data="count"))
    strongest = max((count for *_, count in edges), default=1)
    traces = []
    for width in range(1, num_widths + 1):
        chosen = [(a, b) for a, b, count in edges if int(np.ceil(num_widths * count / strongest)) == width]
        own = [edge for edge in chosen if centre in edge]
        rest = [edge for edge in chosen if centre not in edge]
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
    """The three strongest steps that leave a node, for its hover."""
    leaving = sorted(graph.out_edges(node, data="count"), key=lambda edge: -edge[2])[:3]
    return "".join(f"<br>to L{layers[row]}E{expert}: {count} tokens" for _, (row, expert), count in leaving)


def shares_by_kind(
    names: Sequence[str],
    taken: np.ndarray,
    totals: np.ndarray,
    bounds: np.ndarray,
    fair: float,
    color: str,
    theme: Theme,
) -> go.Figure:
    """Of the tokens of each kind, the share that an expert took, with its interval; the dashed line is a fair share.

    A kind whose interval holds the fair share is grey: so few tokens say nothing about it.

    Args:
        names: kinds, from top to bottom.
        taken: [kind] tokens that the expert took.
        totals: [kind] tokens there were, at least 1.
        bounds: [kind, 2] interval of the share.
        fair: share of a fair expert.
        color: the expert's colour.
        theme: colours.
    """
    shares, telling = taken / totals, (bounds[:, 0] > fair) | (bounds[:, 1] < fair)
    colors = np.where(telling, color, theme.muted)
    labels = [f"{name} (n = {total:,})" for name, total in zip(names, totals.tolist(), strict=True)]
    error = {"type": "data", "symmetric": False, "array": bounds[:, 1] - shares, "arrayminus": shares - bounds[:, 0]}
    error |= {"color": theme.muted, "thickness": 1.5, "width": 4}
    cells = np.column_stack([taken, totals, bounds])
    hover = "%{y}<br>%{customdata[0]} of %{customdata[1]} tokens, %{x:.3~p}"
    hover += "<br>95 % interval %{customdata[2]:.3~p} to %{customdata[3]:.3~p} (derived)<extra></extra>"
    figure = go.Figure(
        go.Scatter(
            x=shares, y=labels, mode="markers", marker={"size": 10, "color": colors}, error_x=error,
            customdata=cells, hovertemplate=hover,
        )
    )  # fmt: skip
    figure.add_vline(fair, line={"color": theme.ink, "width": 1, "dash": "dash"})
    xaxis = {"title": {"text": "share of these tokens that it took"}, "tickformat": ".0%", "range": [-0.02, 1.02]}
    return style(figure, theme, 90 + 34 * max(4, len(names)), xaxis=xaxis, yaxis={"autorange": "reversed"})


def weight_distribution(
    weights: xr.DataArray, color: str, theme: Theme, num_bins: int = 24, height: int = 260
) -> go.Figure:
    """How strongly an expert was weighted by the tokens that chose it.

    Args:
        weights: gate weights, any shape; NaN is unknown and left out.
        color: the expert's colour.
        theme: colours.
        num_bins: bars between 0 and the largest weight.
        height: pixels.
    """
    known = weights.values[~np.isnan(weights.values)].ravel()
    counts, edges = np.histogram(known, bins=num_bins, range=(0, max(float(known.max(initial=0)), 1e-6)))
    middle, width = (edges[:-1] + edges[1:]) / 2, edges[1] - edges[0]
    hover = "weight %{customdata[0]:.3~g} to %{customdata[1]:.3~g}<br>%{y} tokens<extra></extra>"
    bounds = np.column_stack([edges[:-1], edges[1:]]).astype(np.float32)
    bars = go.Bar(x=middle, y=counts, width=width * 0.92, marker_color=color, customdata=bounds, hovertemplate=hover)
    figure = style(go.Figure(bars), theme, height, xaxis={"title": {"text": "gate weight"}, "showgrid": False})
    figure.update_yaxes(title_text="tokens", rangemode="tozero")
    said = f"n = {len(known):,} tokens, median {np.median(known):.3g}" if len(known) else "no token went here"
    return note(figure, said, theme)
