"""Draw data of a run on a model's graph: the load of its experts, the residual norm and the indexer's recall.

Takes labelled arrays and returns Plotly traces. Points have `customdata` (key of the part, layer or -1, expert or -1).
"""

import dataclasses
from typing import Any

import networkx as nx
import numpy as np
import plotly.graph_objects as go
import xarray as xr

from viz.architecture_layout import Model, boxes, expert_cells
from viz.load import LOG_LIMIT, TICKS, clipped_log
from viz.theme import Theme, colorscale, expert_colors

PROFILE = (10.0, 58.0)  # x of a residual norm of 0, and of the largest norm


@dataclasses.dataclass(frozen=True)
class Paint:
    """The data of a run to paint; all arrays, and `recall`, are computed from recorded values.

    Attributes:
        layer: model layer whose data is painted on its block; None: no layer.
        load: load ratio of the layer's experts, [expert]; None: experts are coloured by group.
        group_load: load ratio of the layer's expert groups, [group].
        residual_norm: norm of the residual stream after each layer, [layer], over all tokens; None: no curve.
        recall: share of the layer's dense attention that lies on the keys that its indexer kept; None: no bar.
    """

    layer: int | None = None
    load: xr.DataArray | None = None
    group_load: xr.DataArray | None = None
    residual_norm: xr.DataArray | None = None
    recall: float | None = None


def recall(graph: nx.DiGraph, stack: str, theme: Theme, paint: Paint) -> go.Scatter:
    """Draw the recall as a bar at the bottom of the indexer of a block; without recall or indexer, draw nothing."""
    indexers = [(key, at) for key, box, at in boxes(graph) if box.kind == "indexer" and key.startswith(f"{stack}-")]
    if paint.recall is None or not indexers:
        return go.Scatter(x=[], y=[], mode="lines", hoverinfo="skip")
    (key, (x0, y0, x1, _)), share = indexers[0], f"{paint.recall:.1%} of the attention without selection"
    return go.Scatter(
        x=[x0 + 2, x0 + 2 + (x1 - x0 - 4) * paint.recall], y=[y0 + 3, y0 + 3], mode="lines",
        line={"color": theme.sequential[-3], "width": 4},
        text=[f"L{paint.layer}<br>kept keys hold {share} (derived)"] * 2,
        hovertemplate="%{text}<extra></extra>", customdata=[[key, paint.layer, -1]] * 2,
    )  # fmt: skip


def experts(
    graph: nx.DiGraph, model: Model, stack: str, theme: Theme, paint: Paint | None, expert: int | None
) -> go.Scatter:
    """Draw a square per expert, coloured by its group or, in a painted layer, by its load."""
    middles, _, pitch = expert_cells(graph.graph["experts"][stack], model.router)
    key = next(key for key, box, _ in boxes(graph) if box.kind == "experts" and key.startswith(f"{stack}-"))
    numbers, load = range(model.router.num_experts), paint.load if paint else None
    layer = paint.layer if paint and paint.layer is not None else -1
    outline = {"color": theme.ink, "width": [2 if paint and number == expert else 0 for number in numbers]}
    marker: dict[str, Any] = {"symbol": "square", "size": min(16, max(4, pitch - 1)), "line": outline}
    if load is None:
        size = model.router.num_experts // model.router.num_groups
        texts = [f"E{number}, group {number // size}" for number in numbers]
        marker["color"] = expert_colors(model.router, theme)
    else:
        ratios = load.values.tolist()
        texts = [f"L{layer}E{number}<br>{ratio:.3g} × uniform (derived)" for number, ratio in enumerate(ratios)]
        marker |= {"color": clipped_log(load.values), "cmin": -LOG_LIMIT, "cmax": LOG_LIMIT}
        marker |= {"colorscale": colorscale(theme.load), "colorbar": _bar(f"load of L{layer}, × uniform", theme)}
    return go.Scatter(
        x=[x for x, _ in middles], y=[y for _, y in middles], mode="markers", marker=marker,
        customdata=[[key, layer, number if paint else -1] for number in numbers], text=texts,
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def groups(graph: nx.DiGraph, model: Model, stack: str, theme: Theme, paint: Paint | None) -> go.Scatter:
    """Write each group's load below its experts; if no run is painted, draw nothing."""
    frames = expert_cells(graph.graph["experts"][stack], model.router)[1]
    load = None if paint is None or model.router.num_groups == 1 else paint.group_load
    ratios = [] if load is None else load.values.tolist()
    shown = frames[: len(ratios)]
    return go.Scatter(
        x=[(x0 + x1) / 2 for x0, _, x1, _ in shown], y=[y0 - 12 for _, y0, _, _ in shown], mode="text",
        text=[f"{ratio:.2g}" for ratio in ratios], textfont={"size": 12, "color": theme.muted},
        hovertext=[f"group {group}<br>{ratio:.3g} × uniform (derived)" for group, ratio in enumerate(ratios)],
        hovertemplate="%{hovertext}<extra></extra>", customdata=[[f"{stack}-gate", -1, -1]] * len(ratios),
    )  # fmt: skip


def _bar(title: str, theme: Theme) -> dict[str, Any]:
    """Return the colour bar of the load, for the margin below the graph."""
    anchor = {"orientation": "h", "x": 0.99, "xanchor": "right", "y": 0, "yanchor": "top", "len": 0.52, "thickness": 8}
    look = {"title": {"text": title, "side": "top", "font": {"size": 12, "color": theme.muted}}, "outlinewidth": 0}
    ticks = {"tickvals": np.log2(TICKS), "ticktext": ["≤ ¼", "½", "1", "2", "≥ 4"], "tickfont": {"size": 12}}
    return anchor | look | ticks | {"ypad": 0}


def profile(graph: nx.DiGraph, model: Model, norm: xr.DataArray, chosen: int | None, theme: Theme) -> go.Scatter:
    """Draw the residual norm beside the line of the residual stream, a point per layer.

    The points of layers that share a drawn block are spread evenly over its height.
    """
    points, name = _layer_points(graph, model), norm_name(model)
    known = {int(layer): float(value) for layer, value in zip(norm["layer"].values, norm.values, strict=True)}
    drawn = [layer for layer in points if np.isfinite(known.get(layer, np.nan))]
    layers = sorted(drawn, key=lambda layer: points[layer][1])  # blocks of V4 take turns, layer by layer
    values, (left, right) = [known[layer] for layer in layers], PROFILE
    largest, small = max(values, default=1.0), 5 if len(layers) < 20 else 3
    return go.Scatter(
        x=[left + (right - left) * value / largest for value in values], y=[points[layer][1] for layer in layers],
        mode="lines+markers", line={"color": theme.muted, "width": 1},
        marker={"size": [9 if layer == chosen else small for layer in layers], "color": theme.ink},
        customdata=[[points[layer][0], layer, -1] for layer in layers],
        text=[f"L{layer}<br>{name} {known[layer]:.3g} (derived)" for layer in layers],
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def norm_name(model: Model) -> str:
    """Return the name of the recorded norm, which is taken over all residual streams together."""
    return "residual norm" if model.streams == 1 else f"norm of {model.streams} streams"


def _layer_points(graph: nx.DiGraph, model: Model) -> dict[int, tuple[str, float]]:
    """Return, for each layer, the key of the last part of its block, and the y of its point.

    The points of layers that share a drawn block are spread evenly over its height.
    """
    points = {}
    for stack in model.stacks:
        _, low, _, high = graph.graph["frames"][stack.name]
        last = next(box.key for box in stack.boxes if box.kind in ("experts", "ffn"))
        heights = np.linspace(low, high, len(stack.layers) + 2)[1:-1].tolist()
        points |= {layer: (last, height) for layer, height in zip(stack.layers, heights, strict=True)}
    return points
