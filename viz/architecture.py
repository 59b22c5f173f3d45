"""Draw a model as a graph: layers go upwards, equal layers share one block, and every part can be clicked.

Takes plain values and returns a Plotly figure; `viz/architecture_layout.py` has the positions. A clickable point has
`customdata` (key of the part, layer or -1, expert or -1). Boxes and lines are grey. Experts are coloured by group, or
by their load if a run is painted. Parts that the compared model lacks are outlined in purple.
"""

from collections.abc import Iterator
from typing import Any

import networkx as nx
import numpy as np
import plotly.graph_objects as go

from viz.architecture_layout import WIDTH, Frame, Model, boxes, expert_cells, lay_out
from viz.architecture_paint import PROFILE, Paint, experts, groups, norm_name, profile, recall
from viz.theme import Theme, group_hue, style

STEP = 14.0  # pixels between the points that make a part clickable
STREAM_GAP = 4.0  # pixels between parallel residual streams
MARGIN = {"l": 0, "r": 0, "t": 26, "b": 44}


def architecture(
    model: Model,
    theme: Theme,
    chosen: str | None = None,
    paint: Paint | None = None,
    expert: int | None = None,
) -> go.Figure:
    """Draw the graph of a model.

    Args:
        model: the model to draw.
        theme: colours.
        chosen: key of the part to outline.
        paint: data of a run of this model, drawn on the graph; None: the model alone.
        expert: expert to outline, in the painted layer.
    """
    graph, figure = lay_out(model), go.Figure()
    figure.add_trace(_wires(graph, theme))
    figure.add_trace(_heads(graph, theme))
    figure.add_trace(_labels(graph, theme))
    figure.add_trace(_click_points(graph))
    for stack in model.stacks:
        if stack.name in graph.graph["experts"]:
            painted = paint if paint and paint.layer in stack.layers else None
            figure.add_trace(experts(graph, model, stack.name, theme, painted, expert))
            figure.add_trace(groups(graph, model, stack.name, theme, painted))
            if painted is not None:
                figure.add_trace(recall(graph, stack.name, theme, painted))
    if paint is not None and paint.residual_norm is not None:
        figure.add_trace(profile(graph, model, paint.residual_norm, paint.layer, theme))
    height = graph.graph["height"]
    hidden = {"visible": False, "fixedrange": True}
    axes = {"xaxis": hidden | {"range": [0, WIDTH]}, "yaxis": hidden | {"range": [0, height]}}
    style(figure, theme, int(height + MARGIN["t"] + MARGIN["b"]), margin=MARGIN, dragmode=False, **axes)
    has_profile = paint is not None and paint.residual_norm is not None
    notes = [*_stack_labels(graph, model, theme), *_ends(graph, theme), *_profile_label(graph, model, paint, theme)]
    return figure.update_layout(shapes=[*_frames(graph, model, theme, chosen, has_profile)], annotations=notes)


# --- lines and boxes -------------------------------------------------------------------------------------------------


def _wires(graph: nx.DiGraph, theme: Theme) -> go.Scatter:
    """Draw all edges as one line with gaps; an edge of several streams as parallel lines."""
    x, y = [], []
    for *_, edge in graph.edges(data=True):
        for number in range(edge["streams"]):
            shift = STREAM_GAP * (number - (edge["streams"] - 1) / 2)
            x += [*(point[0] + shift for point in edge["path"]), None]
            y += [*(point[1] for point in edge["path"]), None]
    return go.Scatter(x=x, y=y, mode="lines", line={"color": theme.muted, "width": 1.2}, hoverinfo="skip")


def _heads(graph: nx.DiGraph, theme: Theme) -> go.Scatter:
    """Draw an arrowhead at the end of every edge, and a plus where an output is added to the residual stream."""
    x, y, symbols, sizes = [], [], [], []
    for _, target, path in graph.edges(data="path"):
        (before_x, before_y), (end_x, end_y) = path[-2:]
        if "adds" not in graph.nodes[target]:
            across, sign = end_x != before_x, 1 if end_x + end_y > before_x + before_y else -1
            turn = ("right" if sign > 0 else "left") if across else "up"
            x.append(end_x - (3 * sign if across else 0))
            y.append(end_y - (0 if across else 3))
            symbols.append(f"triangle-{turn}")
            sizes.append(7)
    sums = [node["at"] for _, node in graph.nodes(data=True) if "adds" in node]
    x += [point[0] for point in sums]
    y += [point[1] for point in sums]
    marker = {
        "symbol": [*symbols, *["circle-cross-open"] * len(sums)],
        "size": [*sizes, *[11] * len(sums)],
        "color": theme.muted,
        "line": {"width": 1.2},
    }
    return go.Scatter(x=x, y=y, mode="markers", marker=marker, hoverinfo="skip")


def _frames(
    graph: nx.DiGraph, model: Model, theme: Theme, chosen: str | None, has_profile: bool
) -> Iterator[dict[str, Any]]:
    """Yield Plotly shapes: an area per block, a box per part, a line per expert group, the zero line of the norms."""
    frames = graph.graph["frames"].values()
    for frame in frames:
        yield _rectangle(frame, theme.shade, theme.grid, 1)
    if has_profile:
        low, high = min(frame[1] for frame in frames), max(frame[3] for frame in frames)
        zero = {"type": "line", "x0": PROFILE[0], "x1": PROFILE[0], "y0": low, "y1": high, "layer": "below"}
        yield zero | {"line": {"color": theme.grid, "width": 1}}
    for key, box, frame in boxes(graph):
        color = theme.ink if key == chosen else theme.change[-1] if box.added else theme.muted
        yield _rectangle(frame, theme.background, color, 2.5 if key == chosen or box.added else 1)
    for frame in graph.graph["experts"].values():
        for group, (x0, y0, x1, _) in enumerate(expert_cells(frame, model.router)[1]):
            hue = {"type": "line", "x0": x0, "x1": x1, "y0": y0 - 3, "y1": y0 - 3}
            yield hue | {"line": {"color": group_hue(group), "width": 3}}


def _rectangle(frame: Frame, fill: str, line: str, width: float) -> dict[str, Any]:
    x0, y0, x1, y1 = frame
    corners = {"type": "rect", "x0": x0, "y0": y0, "x1": x1, "y1": y1, "layer": "below"}
    return corners | {"fillcolor": fill, "line": {"color": line, "width": width}}


def _labels(graph: nx.DiGraph, theme: Theme) -> go.Scatter:
    x, y, text = [], [], []
    for _, box, (x0, y0, x1, y1) in boxes(graph):
        is_flat = box.kind == "experts"  # the label is above the experts, on one line
        between = "  " if is_flat else "<br>"
        detail = f"{between}<span style='color:{theme.muted};font-size:12px'>{box.detail}</span>" if box.detail else ""
        x.append((x0 + x1) / 2)
        y.append(y1 - 12 if is_flat else (y0 + y1) / 2)
        text.append(f"{box.label}{detail}")
    return go.Scatter(x=x, y=y, mode="text", text=text, textfont={"color": theme.ink}, hoverinfo="skip")


def _click_points(graph: nx.DiGraph) -> go.Scatter:
    """Draw invisible points over every part, so close together that a click anywhere on the part hits one."""
    x, y, cells, text = [], [], [], []
    for key, box, (x0, y0, x1, y1) in boxes(graph):
        low = y1 - 24 if box.kind == "experts" else y0  # the experts below have their own points
        for at_x in np.arange(x0 + STEP / 2, x1, STEP).tolist():
            for at_y in np.arange(low + STEP / 2, y1, STEP).tolist():
                x.append(at_x)
                y.append(at_y)
                cells.append([key, -1, -1])
                text.append(f"<b>{box.label}</b><br>{box.hover}")
    invisible = {"marker": {"opacity": 0}}
    return go.Scatter(
        x=x, y=y, mode="markers", marker={"opacity": 0, "size": STEP, "symbol": "square"}, customdata=cells, text=text,
        hovertemplate="%{text}<extra></extra>", selected=invisible, unselected=invisible,
    )  # fmt: skip


# --- texts -----------------------------------------------------------------------------------------------------------


def _note(x: float, y: float, text: str, theme: Theme, **options: Any) -> dict[str, Any]:
    look = {"text": text, "showarrow": False, "font": {"size": 12, "color": theme.muted}, "yanchor": "middle"}
    return look | {"x": x, "y": y, "xref": "x", "yref": "y"} | options


def _stack_labels(graph: nx.DiGraph, model: Model, theme: Theme) -> Iterator[dict[str, Any]]:
    for stack in model.stacks:
        _, _, right, top = graph.graph["frames"][stack.name]
        yield _note(right - 6, top - 12, stack.label, theme, xanchor="right", font={"size": 12, "color": theme.ink})


def _ends(graph: nx.DiGraph, theme: Theme) -> Iterator[dict[str, Any]]:
    """Yield the labels of the model's inputs and outputs as Plotly annotations."""
    for name in ("tokens", "next token", "token after it"):
        if name in graph:
            x, y = graph.nodes[name]["at"]
            yield _note(x, y + (2 if name == "tokens" else 9), name, theme)


def _profile_label(graph: nx.DiGraph, model: Model, paint: Paint | None, theme: Theme) -> Iterator[dict[str, Any]]:
    if paint is not None and paint.residual_norm is not None:
        bottom = graph.graph["frames"][model.stacks[0].name][1]
        yield _note(4, bottom, norm_name(model), theme, xanchor="left", yanchor="top")
