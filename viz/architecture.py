"""A model as a picture: layers upwards, alike ones folded, every part clickable, and a run painted on it.

Labelled plain values in, a Plotly figure out; where everything stands is in `viz/architecture_layout.py`. A point that
can be clicked carries `customdata` (key of the part, layer or -1, expert or -1). The frame is grey; colour is data: the
experts' own hues, or their load where a run is painted. What is marked as added is outlined in the colour of a change.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import networkx as nx
import numpy as np
import plotly.graph_objects as go
import xarray as xr

from viz.architecture_layout import WIDTH, Box, Model, expert_cells, lay_out
from viz.load import LOG_LIMIT, TICKS, clipped_log
from viz.theme import Theme, colorscale, expert_colors, group_hue, style

PROFILE = (10.0, 58.0)  # the residual norm is drawn between: zero, and the largest
STEP = 14.0  # distance of the points that make a part clickable
MARGIN = {"l": 0, "r": 0, "t": 26, "b": 44}
Frame = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class Paint:
    """What of a run is painted.

    Attributes:
        layer: model layer whose load is shown, where one is; its block carries the colours.
        load: ratio to uniform of the layer's experts, [expert], *derived*; None leaves them unpainted.
        group_load: the same of its groups, [group], *derived*.
        residual_norm: where each layer ends, [layer], *derived* from those of the tokens; None draws no profile.
    """

    layer: int | None = None
    load: xr.DataArray | None = None
    group_load: xr.DataArray | None = None
    residual_norm: xr.DataArray | None = None


def architecture(
    model: Model,
    theme: Theme,
    chosen: str | None = None,
    paint: Paint | None = None,
    expert: int | None = None,
) -> go.Figure:
    """The picture of a model.

    Args:
        model: what to draw.
        theme: colours.
        chosen: key of the part to outline.
        paint: a run of this model.
        expert: expert to outline, of the layer that is painted.
    """
    graph, figure = lay_out(model), go.Figure()
    figure.add_trace(_wires(graph, theme))
    figure.add_trace(_heads(graph, theme))
    figure.add_trace(_labels(graph, theme))
    figure.add_trace(_click_points(graph))
    for stack in model.stacks:
        if stack.name in graph.graph["experts"]:
            painted = paint if paint and paint.layer in stack.layers else None
            figure.add_trace(_experts(graph, model, stack.name, theme, painted, expert))
            figure.add_trace(_groups(graph, model, stack.name, theme, painted))
    if paint is not None and paint.residual_norm is not None:
        figure.add_trace(_profile(graph, model, paint.residual_norm, paint.layer, theme))
    tall = graph.graph["height"]
    hidden = {"visible": False, "fixedrange": True}
    axes = {"xaxis": hidden | {"range": [0, WIDTH]}, "yaxis": hidden | {"range": [0, tall]}}
    style(figure, theme, int(tall + MARGIN["t"] + MARGIN["b"]), margin=MARGIN, dragmode=False, **axes)
    has_profile = paint is not None and paint.residual_norm is not None
    notes = [*_stack_labels(graph, model, theme), *_ends(graph, theme), *_profile_label(graph, model, paint, theme)]
    return figure.update_layout(shapes=[*_frames(graph, model, theme, chosen, has_profile)], annotations=notes)


# --- lines and boxes -------------------------------------------------------------------------------------------------


def _wires(graph: nx.DiGraph, theme: Theme) -> go.Scatter:
    """Every flow as one broken line."""
    x, y = [], []
    for *_, path in graph.edges(data="path"):
        x += [*(point[0] for point in path), None]
        y += [*(point[1] for point in path), None]
    return go.Scatter(x=x, y=y, mode="lines", line={"color": theme.muted, "width": 1.2}, hoverinfo="skip")


def _heads(graph: nx.DiGraph, theme: Theme) -> go.Scatter:
    """An arrow's head at the end of every flow, and a plus where it is added to the stream."""
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
    places = [held["at"] for _, held in graph.nodes(data=True) if "adds" in held]
    x += [place[0] for place in places]
    y += [place[1] for place in places]
    marker = {
        "symbol": [*symbols, *["circle-cross-open"] * len(places)],
        "size": [*sizes, *[11] * len(places)],
        "color": theme.muted,
        "line": {"width": 1.2},
    }
    return go.Scatter(x=x, y=y, mode="markers", marker=marker, hoverinfo="skip")


def _frames(
    graph: nx.DiGraph, model: Model, theme: Theme, chosen: str | None, has_profile: bool
) -> Iterator[dict[str, Any]]:
    """Blocks as shaded areas, parts as boxes, groups as a line in their hue below their experts, the profile's zero."""
    frames = graph.graph["frames"].values()
    for frame in frames:
        yield _rectangle(frame, theme.shade, theme.grid, 1)
    if has_profile:
        low, high = min(frame[1] for frame in frames), max(frame[3] for frame in frames)
        zero = {"type": "line", "x0": PROFILE[0], "x1": PROFILE[0], "y0": low, "y1": high, "layer": "below"}
        yield zero | {"line": {"color": theme.grid, "width": 1}}
    for key, box, frame in _boxes(graph):
        color = theme.ink if key == chosen else theme.change[-1] if box.added else theme.muted
        yield _rectangle(frame, theme.background, color, 2.5 if key == chosen or box.added else 1)
    for frame in graph.graph["experts"].values():
        for group, (x0, y0, x1, _) in enumerate(expert_cells(frame, model.num_experts, model.num_groups)[1]):
            hue = {"type": "line", "x0": x0, "x1": x1, "y0": y0 - 3, "y1": y0 - 3}
            yield hue | {"line": {"color": group_hue(group), "width": 3}}


def _rectangle(frame: Frame, fill: str, line: str, width: float) -> dict[str, Any]:
    x0, y0, x1, y1 = frame
    place = {"type": "rect", "x0": x0, "y0": y0, "x1": x1, "y1": y1, "layer": "below"}
    return place | {"fillcolor": fill, "line": {"color": line, "width": width}}


def _boxes(graph: nx.DiGraph) -> Iterator[tuple[str, Box, Frame]]:
    for key, held in graph.nodes(data=True):
        if "box" in held:
            yield key, held["box"], held["frame"]


def _labels(graph: nx.DiGraph, theme: Theme) -> go.Scatter:
    x, y, text = [], [], []
    for _, box, (x0, y0, x1, y1) in _boxes(graph):
        is_flat = box.kind == "experts"  # their name stands above them, in one line
        between = "  " if is_flat else "<br>"
        x.append((x0 + x1) / 2)
        y.append(y1 - 12 if is_flat else (y0 + y1) / 2)
        text.append(f"{box.label}{between}<span style='color:{theme.muted};font-size:12px'>{box.detail}</span>")
    return go.Scatter(x=x, y=y, mode="text", text=text, textfont={"color": theme.ink}, hoverinfo="skip")


def _click_points(graph: nx.DiGraph) -> go.Scatter:
    """Unseen points all over the parts, close enough that a click anywhere on a part meets one."""
    x, y, cells, text = [], [], [], []
    for key, box, (x0, y0, x1, y1) in _boxes(graph):
        low = y1 - 24 if box.kind == "experts" else y0  # the experts below can be clicked themselves
        for at_x in np.arange(x0 + STEP / 2, x1, STEP).tolist():
            for at_y in np.arange(low + STEP / 2, y1, STEP).tolist():
                x.append(at_x)
                y.append(at_y)
                cells.append([key, -1, -1])
                text.append(f"<b>{box.label}</b><br>{box.hover}")
    unseen = {"marker": {"opacity": 0}}
    return go.Scatter(
        x=x, y=y, mode="markers", marker={"opacity": 0, "size": STEP, "symbol": "square"}, customdata=cells, text=text,
        hovertemplate="%{text}<extra></extra>", selected=unseen, unselected=unseen,
    )  # fmt: skip


# --- experts and the run on them -------------------------------------------------------------------------------------


def _experts(
    graph: nx.DiGraph, model: Model, stack: str, theme: Theme, paint: Paint | None, expert: int | None
) -> go.Scatter:
    """A square per expert: in its own hue, or by its load."""
    middles, _, pitch = expert_cells(graph.graph["experts"][stack], model.num_experts, model.num_groups)
    key = next(key for key, box, _ in _boxes(graph) if box.kind == "experts" and key.startswith(f"{stack}-"))
    numbers, load = range(model.num_experts), paint.load if paint else None
    layer = paint.layer if paint and paint.layer is not None else -1
    outline = {"color": theme.ink, "width": [2 if paint and number == expert else 0 for number in numbers]}
    marker: dict[str, Any] = {"symbol": "square", "size": min(16, max(4, pitch - 1)), "line": outline}
    if load is None:
        said = [f"E{number}, group {number * model.num_groups // model.num_experts}" for number in numbers]
        marker["color"] = expert_colors(model.num_experts, model.num_groups, theme)
    else:
        ratios = load.values.tolist()
        said = [f"L{layer}E{number}<br>{ratio:.3g} × uniform (derived)" for number, ratio in enumerate(ratios)]
        marker |= {"color": clipped_log(load.values), "cmin": -LOG_LIMIT, "cmax": LOG_LIMIT}
        marker |= {"colorscale": colorscale(theme.load), "colorbar": _bar(f"load of L{layer}, × uniform", theme)}
    return go.Scatter(
        x=[x for x, _ in middles], y=[y for _, y in middles], mode="markers", marker=marker,
        customdata=[[key, layer, number if paint else -1] for number in numbers], text=said,
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def _groups(graph: nx.DiGraph, model: Model, stack: str, theme: Theme, paint: Paint | None) -> go.Scatter:
    """Each group's load as a number below its experts; nothing where no run is painted."""
    frames = expert_cells(graph.graph["experts"][stack], model.num_experts, model.num_groups)[1]
    load = None if paint is None or model.num_groups == 1 else paint.group_load
    ratios = [] if load is None else load.values.tolist()
    shown = frames[: len(ratios)]
    return go.Scatter(
        x=[(x0 + x1) / 2 for x0, _, x1, _ in shown], y=[y0 - 12 for _, y0, _, _ in shown], mode="text",
        text=[f"{ratio:.2g}" for ratio in ratios], textfont={"size": 12, "color": theme.muted},
        hovertext=[f"group {group}<br>{ratio:.3g} × uniform (derived)" for group, ratio in enumerate(ratios)],
        hovertemplate="%{hovertext}<extra></extra>", customdata=[[f"{stack}-gate", -1, -1]] * len(ratios),
    )  # fmt: skip


def _bar(title: str, theme: Theme) -> dict[str, Any]:
    """The load's colours below the picture, in the space that is kept for them."""
    place = {"orientation": "h", "x": 0.99, "xanchor": "right", "y": 0, "yanchor": "top", "len": 0.52, "thickness": 8}
    look = {"title": {"text": title, "side": "top", "font": {"size": 12, "color": theme.muted}}, "outlinewidth": 0}
    ticks = {"tickvals": np.log2(TICKS), "ticktext": ["≤ ¼", "½", "1", "2", "≥ 4"], "tickfont": {"size": 12}}
    return place | look | ticks | {"ypad": 0}


def _profile(graph: nx.DiGraph, model: Model, norm: xr.DataArray, chosen: int | None, theme: Theme) -> go.Scatter:
    """The residual norm beside the stream: a point per layer, at its height within its block."""
    places = _layer_places(graph, model)
    known = {int(layer): float(value) for layer, value in zip(norm["layer"].values, norm.values, strict=True)}
    layers = [layer for layer in sorted(places) if np.isfinite(known.get(layer, np.nan))]
    values, (left, right) = [known[layer] for layer in layers], PROFILE
    largest, small = max(values, default=1.0), 5 if len(layers) < 20 else 3
    return go.Scatter(
        x=[left + (right - left) * value / largest for value in values], y=[places[layer][1] for layer in layers],
        mode="lines+markers", line={"color": theme.muted, "width": 1},
        marker={"size": [9 if layer == chosen else small for layer in layers], "color": theme.ink},
        customdata=[[places[layer][0], layer, -1] for layer in layers],
        text=[f"L{layer}<br>residual norm {known[layer]:.3g} (derived)" for layer in layers],
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def _layer_places(graph: nx.DiGraph, model: Model) -> dict[int, tuple[str, float]]:
    """For every layer the part that ends it, and its height: evenly within the block that it is folded to."""
    places = {}
    for stack in model.stacks:
        _, low, _, high = graph.graph["frames"][stack.name]
        last = next(box.key for box in stack.boxes if box.kind in ("experts", "ffn"))
        heights = np.linspace(low, high, len(stack.layers) + 2)[1:-1].tolist()
        places |= {layer: (last, height) for layer, height in zip(stack.layers, heights, strict=True)}
    return places


# --- words -----------------------------------------------------------------------------------------------------------


def _note(x: float, y: float, text: str, theme: Theme, **options: Any) -> dict[str, Any]:
    look = {"text": text, "showarrow": False, "font": {"size": 12, "color": theme.muted}, "yanchor": "middle"}
    return look | {"x": x, "y": y, "xref": "x", "yref": "y"} | options


def _stack_labels(graph: nx.DiGraph, model: Model, theme: Theme) -> Iterator[dict[str, Any]]:
    for stack in model.stacks:
        _, _, right, top = graph.graph["frames"][stack.name]
        yield _note(right - 6, top - 12, stack.label, theme, xanchor="right", font={"size": 12, "color": theme.ink})


def _ends(graph: nx.DiGraph, theme: Theme) -> Iterator[dict[str, Any]]:
    """What goes in and what comes out."""
    for name in ("tokens", "next token", "token after it"):
        if name in graph:
            x, y = graph.nodes[name]["at"]
            yield _note(x, y + (2 if name == "tokens" else 5), name, theme)


def _profile_label(graph: nx.DiGraph, model: Model, paint: Paint | None, theme: Theme) -> Iterator[dict[str, Any]]:
    if paint is not None and paint.residual_norm is not None:
        bottom = graph.graph["frames"][model.stacks[0].name][1]
        yield _note(4, bottom, "residual norm", theme, xanchor="left", yanchor="top")
