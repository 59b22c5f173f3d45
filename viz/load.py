"""Figures of expert load as a ratio to uniform, on a log2 scale that diverges around 1.

Takes labelled ratios (axes `moe_layer, expert, group`) and returns Plotly figures. A ratio below 1/4 or above 4 has the
end colour of the scale; the hover text has the number, 0 for a dead expert.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from viz.axis import (
    click_layer,
    color_bar,
    expert_axis,
    expert_positions,
    grid_points,
    layer_axis,
    layer_labels,
    note,
    rows_height,
    spread,
)
from viz.layout import Layout
from viz.theme import Theme, blend, colorscale, group_hue, readable_on, style, translucent

LOG_LIMIT = 2.0  # colours and bars end at ratios of 1/4 and 4
TICKS = np.array([0.25, 0.5, 1, 2, 4])


class Band(Protocol):
    """The range of a layer's load ratios by chance alone.

    If a router selects experts at random, all experts (or all groups) of a layer are in the range at once with the
    probability `confidence`.
    """

    @property
    def num_tokens(self) -> int: ...
    @property
    def confidence(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def group_low(self) -> float: ...
    @property
    def group_high(self) -> float: ...


def clipped_log(ratio: np.ndarray) -> np.ndarray:
    """Return log2 of ratios, float32, clipped to the scale; a ratio of 0 gives the low end, NaN stays NaN."""
    return np.log2(np.clip(ratio, 2**-LOG_LIMIT, 2**LOG_LIMIT)).astype(np.float32)


def verdicts(ratio: np.ndarray, band: Band | None) -> np.ndarray:
    """Return for every ratio, as a hover text, whether it is below, inside or above the range of chance."""
    if band is None:
        return np.where(ratio == 0, "took no token", "").astype(object)
    outside = np.where(ratio > band.high, "more than chance explains", "within chance")
    outside = np.where(ratio < band.low, "less than chance explains", outside)
    return np.where(ratio == 0, np.char.add("took no token; ", outside), outside).astype(object)


def load_heatmap(relative_load: xr.DataArray, layout: Layout, theme: Theme, band: Band | None = None) -> go.Figure:
    """Draw layers x experts as a ratio to uniform; a dot marks a ratio that chance alone does not explain.

    Args:
        relative_load: load ratios [moe_layer, expert]; NaN where no token was counted.
        layout: layout of the router; groups are drawn apart.
        theme: colours.
        band: range by chance alone for this many tokens.
    """
    ratio, layers = relative_load.transpose("moe_layer", "expert").values, layer_labels(relative_load)
    positions = expert_positions(layout)
    heatmap = ratio_map(spread(clipped_log(ratio), positions), theme)
    points = _cell_points(ratio, layers, positions, band)
    figure = go.Figure([heatmap, _outside_dots(ratio, positions, band, theme), points])
    axes = {"xaxis": expert_axis(layout), "yaxis": layer_axis(layers)}
    style(figure, theme, rows_height(len(layers)), **axes)
    return figure if band is None else note(figure, _band_note(band), theme)


def _cell_points(ratio: np.ndarray, layers: np.ndarray, positions: np.ndarray, band: Band | None) -> go.Scattergl:
    x, y = grid_points(positions, np.arange(len(layers)))
    names = np.stack([np.repeat(layers, len(positions)), np.tile(np.arange(len(positions)), len(layers))], axis=1)
    cells = np.column_stack([names, ratio.ravel()]).astype(np.float32)
    hover = "L%{customdata[0]}E%{customdata[1]}<br>%{customdata[2]:.3~g} × uniform (derived)<br>%{text}<extra></extra>"
    return click_layer(x, y, customdata=cells, text=verdicts(ratio, band).ravel(), hovertemplate=hover)


def ratio_map(logs: np.ndarray, theme: Theme, unit: str = "× uniform") -> go.Heatmap:
    """Return the heatmap trace of ratios that `clipped_log` returned."""
    bar = color_bar(unit, tickvals=np.log2(TICKS), ticktext=np.array(["≤ ¼", "½", "1", "2", "≥ 4"]))
    scale = colorscale(theme.load)
    gap = 1 if logs.shape[1] <= 100 else 0
    return go.Heatmap(
        z=logs, zmin=-LOG_LIMIT, zmax=LOG_LIMIT, colorscale=scale, colorbar=bar, hoverinfo="skip", xgap=gap, ygap=1
    )


def _outside_dots(ratio: np.ndarray, positions: np.ndarray, band: Band | None, theme: Theme) -> go.Scattergl:
    outside = np.zeros(ratio.shape, bool) if band is None else (ratio < band.low) | (ratio > band.high)
    rows, experts = np.nonzero(outside)
    on_dark = np.array([color == "#ffffff" for color in _readable_on(ratio[rows, experts], theme)], np.uint8)
    colors = {"color": on_dark, "colorscale": [[0, "#000000"], [1, "#ffffff"]], "cmin": 0, "cmax": 1}
    marker = {"size": 4 if ratio.shape[1] <= 64 else 2} | colors
    return go.Scattergl(x=positions[experts], y=rows, mode="markers", marker=marker, hoverinfo="skip", name="outside")


def _band_note(band: Band) -> str:
    chance = f"chance alone: {band.low:.3g} to {band.high:.3g}"
    return f"n = {band.num_tokens:,} tokens; {chance}; ● outside it"


def load_strip(relative_load: xr.DataArray, layout: Layout, theme: Theme, band: Band | None = None) -> go.Figure:
    """Draw a row of small bars per layer: each expert's ratio to uniform, up to 4; a dotted line in each row is at 1.

    Args:
        relative_load: load ratios [moe_layer, expert].
        layout: layout of the router; groups are drawn apart.
        theme: colours.
        band: range by chance alone; bars inside the range are grey. Without it, bars are blue below 1, orange above.
    """
    ratio, layers = relative_load.transpose("moe_layer", "expert").values, layer_labels(relative_load)
    positions = expert_positions(layout)
    low, high = (1.0, 1.0) if band is None else (band.low, band.high)
    kinds = {theme.load[1]: ratio < low, theme.load[3]: (ratio >= low) & (ratio <= high), theme.load[-2]: ratio > high}
    width = float(np.clip(420 / len(positions), 1, 10))
    figure = go.Figure([_segments(ratio, mask, positions, color, width) for color, mask in kinds.items()])
    figure.add_trace(_cell_points(ratio, layers, positions, band))
    figure.add_trace(_fair_lines(len(layers), float(positions[-1]), theme))
    axes = {"xaxis": expert_axis(layout), "yaxis": layer_axis(layers)}
    style(figure, theme, rows_height(len(layers)), **axes)
    return figure if band is None else note(figure, _band_note(band).replace("● outside it", "grey inside it"), theme)


def _segments(ratio: np.ndarray, mask: np.ndarray, positions: np.ndarray, color: str, width: float) -> go.Scattergl:
    """Return vertical bars as the lines of one trace; a trace per bar would be slow for thousands."""
    rows, experts = np.nonzero(mask)
    feet = rows - 0.45
    tops = feet + 0.9 * np.minimum(ratio[rows, experts], 2**LOG_LIMIT) / 2**LOG_LIMIT
    gap = np.full(len(rows), np.nan)
    x = np.stack([positions[experts], positions[experts], gap], axis=1).astype(np.float32).ravel()
    y = np.stack([feet, tops, gap], axis=1).astype(np.float32).ravel()
    return go.Scattergl(x=x, y=y, mode="lines", line={"color": color, "width": width}, hoverinfo="skip")


def _fair_lines(num_rows: int, right: float, theme: Theme) -> go.Scatter:
    """Return a dotted line at ratio 1 in every row, as one trace."""
    heights = np.arange(num_rows) - 0.45 + 0.9 / 2**LOG_LIMIT
    y = np.stack([heights, heights, np.full(num_rows, np.nan)], axis=1).ravel()
    line = {"color": theme.muted, "width": 1, "dash": "dot"}
    return go.Scatter(x=np.tile([-0.6, right + 0.6, np.nan], num_rows), y=y, mode="lines", line=line, hoverinfo="skip")


def load_bars(
    relative_load: xr.DataArray, layout: Layout, theme: Theme, band: Band | None = None, chosen: int | None = None
) -> go.Figure:
    """Draw a bar per expert of one layer: its ratio to uniform, with a dashed line at 1 and the range of chance.

    Args:
        relative_load: load ratios [expert].
        layout: layout of the router; groups are drawn apart, with their hue below the bars.
        theme: colours.
        band: range by chance alone for this many tokens.
        chosen: expert to outline.
    """
    ratio, positions = relative_load.values, expert_positions(layout)
    colors = [
        blend(theme.load, (log + LOG_LIMIT) / (2 * LOG_LIMIT)) for log in np.nan_to_num(clipped_log(ratio)).tolist()
    ]
    experts = np.arange(len(ratio))
    hover = "E%{customdata[0]}<br>%{y:.3~g} × uniform (derived)<br>%{hovertext}<extra></extra>"
    outline = {"width": np.where(experts == chosen, 2, 0), "color": theme.ink}
    bars = go.Bar(
        x=positions, y=ratio, marker={"color": colors, "line": outline}, customdata=experts[:, None],
        hovertext=verdicts(ratio, band), hovertemplate=hover, width=0.9,
    )  # fmt: skip
    figure = go.Figure([bars, _dead_marks(ratio, positions, theme)])
    if band is not None:
        note(figure, _band_note(band).rsplit(";", 1)[0], theme)
    if chosen is not None:
        top_of_bar = {"x": float(positions[chosen]), "y": float(np.nan_to_num(ratio[chosen])), "yanchor": "bottom"}
        figure.add_annotation(text=f"E{chosen}", showarrow=False, font={"size": 12}, **top_of_bar)
    shapes = [*_level_shapes(band, theme), *_group_strip(positions, layout.num_groups)]
    top = max(2.0, 1.15 * float(np.nanmax(ratio, initial=0)))
    yaxis = {"title": {"text": "× uniform"}, "range": [-0.06 * top, top]}
    return style(figure, theme, 320, xaxis=expert_axis(layout), yaxis=yaxis, shapes=shapes)


def _level_shapes(band: Band | None, theme: Theme) -> Iterator[dict[str, Any]]:
    """Yield Plotly shapes: the range of chance, and a dashed line at 1."""
    across = {"xref": "x domain", "x0": 0, "x1": 1}
    if band is not None:
        fill = {"fillcolor": translucent(theme.muted, 0.18), "line": {"width": 0}, "layer": "below"}
        yield across | fill | {"type": "rect", "y0": band.low, "y1": band.high}
    yield across | {"type": "line", "y0": 1, "y1": 1, "line": {"color": theme.ink, "width": 1, "dash": "dash"}}


def _dead_marks(ratio: np.ndarray, positions: np.ndarray, theme: Theme) -> go.Scatter:
    """Return a cross with a hover text for each expert of ratio 0, whose bar is invisible."""
    dead = np.flatnonzero(ratio == 0)
    marker = {"symbol": "x-thin", "size": 7, "line": {"color": theme.muted, "width": 1.5}}
    hover = "E%{customdata[0]}<br>took no token<extra></extra>"
    x, y = positions[dead], np.zeros(len(dead))
    return go.Scatter(x=x, y=y, mode="markers", marker=marker, customdata=dead[:, None], hovertemplate=hover)


def _group_strip(positions: np.ndarray, num_groups: int) -> Iterator[dict[str, Any]]:
    """Yield a Plotly shape per group: a strip in its hue below its experts."""
    size = len(positions) // num_groups
    for group in range(num_groups):
        first, last = float(positions[group * size]), float(positions[group * size + size - 1])
        box = {"x0": first - 0.45, "x1": last + 0.45, "y0": 0, "y1": 0.025, "yref": "paper"}
        yield box | {"type": "rect", "fillcolor": group_hue(group), "line": {"width": 0}}


def group_load(relative_load: xr.DataArray, theme: Theme, band: Band | None = None) -> go.Figure:
    """Draw layers x groups, each cell with its ratio to uniform; a dot marks a ratio that chance does not explain."""
    ratio, layers = relative_load.transpose("moe_layer", "group").values, layer_labels(relative_load)
    low, high = (-np.inf, np.inf) if band is None else (band.group_low, band.group_high)
    outside = (ratio < low) | (ratio > high)
    x, y = grid_points(np.arange(ratio.shape[1]), np.arange(len(layers)))
    cells = np.column_stack([np.repeat(layers, ratio.shape[1]), np.tile(np.arange(ratio.shape[1]), len(layers))])
    texts = np.char.add(np.char.mod("%.3g", ratio.ravel()), np.where(outside.ravel(), " ●", ""))
    hover = "L%{customdata[0]} group %{customdata[1]}<br>%{text} × uniform (derived)<extra></extra>"
    font = {"color": _readable_on(ratio.ravel(), theme), "size": 12}
    numbers = go.Scatter(x=x, y=y, mode="text", text=texts, textfont=font, customdata=cells, hovertemplate=hover)
    figure = go.Figure([ratio_map(clipped_log(ratio), theme), numbers])
    xaxis = {"title": {"text": "group"}, "dtick": 1, "showgrid": False, "range": [-0.5, ratio.shape[1] - 0.5]}
    style(figure, theme, rows_height(len(layers), limit=1400), xaxis=xaxis, yaxis=layer_axis(layers))
    if band is None:
        return figure
    chance = f"chance alone: {low:.3g} to {high:.3g}"
    return note(figure, f"n = {band.num_tokens:,} tokens; {chance}; ● outside it", theme)


def _readable_on(ratio: np.ndarray, theme: Theme) -> list[str]:
    """Return black or white for each cell of a load map, whichever has more contrast with the cell's colour."""
    shades = np.round(16 * np.nan_to_num(clipped_log(ratio))).astype(int)  # more colours than an eye can tell apart
    inks = {shade: readable_on(blend(theme.load, (shade / 16 + LOG_LIMIT) / (2 * LOG_LIMIT))) for shade in set(shades)}
    return [inks[shade] for shade in shades]
