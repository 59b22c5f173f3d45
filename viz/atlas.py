"""Figures of a corpus: what survives a test is coloured, what does not is grey, what cannot be judged is blank.

Takes arrays with an axis of experts, and a hover text per cell; returns Plotly figures. A clickable cell of a map has
`customdata` (layer, expert), one of a square map (i, j).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from viz.axis import (
    click_layer,
    color_bar,
    expert_axis,
    expert_positions,
    grid_points,
    group_lines,
    note,
    row_axis,
    rows_height,
    spread,
)
from viz.layout import Layout
from viz.theme import Theme, colorscale, style

LIMIT = 3.0  # colours end at a factor of 8
TICKS = np.array([-3, -2, -1, 0, 1, 2, 3])
FACTORS = np.array(["≤ ⅛", "¼", "½", "1", "2", "4", "≥ 8"])


def judged_map(
    values_RE: np.ndarray,
    stands_RE: np.ndarray,
    texts_RE: np.ndarray,
    rows: Sequence[str],
    layers_R: np.ndarray,
    layout: Layout,
    theme: Theme,
    unit: str,
    changes: bool = False,
    words: str = "",
) -> go.Figure:
    """Draw rows x experts: log2 of a ratio, in colour where it stands and grey where chance may explain it.

    Args:
        values_RE: log2 of the ratio, [row, expert]; NaN (too few documents) leaves the cell blank.
        stands_RE: whether the ratio survived its test, [row, expert] bool.
        texts_RE: hover text, [row, expert].
        rows: names of the rows, the first at the bottom.
        layers_R: model layer number of each row; a click chooses it.
        layout: layout of the router; groups are drawn apart.
        theme: colours: those of load, because the ratio is one of loads.
        unit: unit of the colour bar.
        changes: whether the ratio compares two corpora; the colours are then those of a change.
        words: one line of grey text above the map.
    """
    positions, number = expert_positions(layout), len(rows)
    layers = [_judged(spread(part, positions), theme, scale, unit) for part, scale in _parts(
        values_RE, stands_RE, theme.change if changes else theme.load, theme)]  # fmt: skip
    x, y = grid_points(positions, np.arange(number))
    cells = np.stack(np.broadcast_arrays(layers_R[:, None], np.arange(len(positions))), axis=-1).reshape(-1, 2)
    points = click_layer(x, y, customdata=cells, text=texts_RE.ravel(), hovertemplate="%{text}<extra></extra>")
    figure = go.Figure([*layers, points])
    style(figure, theme, rows_height(number), xaxis=expert_axis(layout), yaxis=row_axis(rows))
    return note(figure, words, theme) if words else figure


def _parts(
    values: np.ndarray, stands: np.ndarray, colors: tuple[str, ...], theme: Theme
) -> list[tuple[np.ndarray, list[list[Any]]]]:
    """Return the cells that do not stand with a scale of one grey, and those that stand with their scale."""
    grey = np.where(np.isfinite(values) & ~stands, 0, np.nan)
    coloured = np.where(stands, np.clip(values, -LIMIT, LIMIT), np.nan)
    return [(grey, [[0, theme.grid], [1, theme.grid]]), (coloured, colorscale(colors))]


def _judged(values: np.ndarray, theme: Theme, scale: list[list[Any]], unit: str) -> go.Heatmap:
    is_grey = scale[0][1] == scale[-1][1]
    gap = 1 if values.shape[1] <= 100 else 0
    return go.Heatmap(
        z=values.astype(np.float32), zmin=-LIMIT, zmax=LIMIT, colorscale=scale, hoverinfo="skip", xgap=gap, ygap=1,
        showscale=not is_grey, name="grey" if is_grey else "stands",
        colorbar=color_bar(unit, tickvals=TICKS, ticktext=FACTORS),
    )  # fmt: skip


def pair_map(
    values_EE: np.ndarray,
    stands_EE: np.ndarray,
    texts_EE: np.ndarray,
    layout: Layout,
    theme: Theme,
    axes: tuple[str, str],
    words: str = "",
) -> go.Figure:
    """Draw experts x experts: log2 of a ratio, in colour where it stands and grey where chance may explain it.

    Args:
        values_EE: log2 of the ratio, [expert, other expert]; NaN leaves the cell blank.
        stands_EE: whether the ratio survived its test.
        texts_EE: hover texts.
        layout: layout of the router; groups are drawn apart.
        theme: colours.
        axes: titles of the axis of rows and of the axis of columns.
        words: one line of grey text above the map.
    """
    positions = expert_positions(layout)
    columns = positions.astype(int)
    figure = go.Figure()
    for part, scale in _parts(values_EE, stands_EE, theme.load, theme):
        wide = np.full((columns[-1] + 1, columns[-1] + 1), np.nan, dtype=np.float32)
        wide[np.ix_(columns, columns)] = part
        figure.add_trace(_judged(wide, theme, scale, "× forced").update(colorbar=_BAR))
    x, y = grid_points(positions, positions)
    known = np.isfinite(values_EE).ravel()
    pairs = np.indices(values_EE.shape).reshape(2, -1).T[known]
    hover = "%{text}<extra></extra>"
    figure.add_trace(
        click_layer(x[known], y[known], customdata=pairs, text=texts_EE.ravel()[known], hovertemplate=hover)
    )
    group_lines(figure, layout, theme, both=True)
    axis = expert_axis(layout) | {"constrain": "domain"}
    across = axis | {"constraintoward": "left", "title": {"text": axes[1]}}
    upwards = axis | {"scaleanchor": "x", "constraintoward": "top", "title": {"text": axes[0]}}
    style(figure, theme, 500, xaxis=across, yaxis=upwards, margin={"l": 8, "r": 8, "t": 92, "b": 8})
    return note(figure, words, theme).update_annotations(yshift=36) if words else figure


# The colour bar is above the square map, so that the map keeps the full width of a narrow page.
_BAR = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "len": 0.6, "thickness": 8}
_BAR |= {"tickvals": TICKS, "ticktext": FACTORS, "outlinewidth": 0, "ypad": 4, "title": {"text": ""}}


def measures_by_layer(
    layers: Sequence[str], series: Mapping[str, np.ndarray], texts: Mapping[str, Sequence[str]], unit: str, theme: Theme
) -> go.Figure:
    """Draw several measures of each layer as marks in one row; the first measure is filled, the others are hollow.

    Args:
        layers: names of the layers, the first at the bottom.
        series: values per layer, by the name in the legend.
        texts: hover texts per layer, by the same names.
        unit: title of the axis.
        theme: colours.
    """
    figure = go.Figure()
    symbols = ("circle", "circle-open", "square-open", "diamond-open")
    for symbol, (name, values) in zip(symbols, series.items(), strict=False):
        marker = {"symbol": symbol, "size": 10, "color": theme.ink if symbol == "circle" else theme.muted}
        marker |= {"line": {"width": 1.5}}
        rows = np.arange(len(layers))
        hover = "%{text}<extra></extra>"
        figure.add_trace(
            go.Scatter(
                x=values, y=rows, mode="markers", marker=marker, name=name, text=list(texts[name]), hovertemplate=hover
            )
        )
    figure.add_vline(0, line={"color": theme.muted, "width": 1, "dash": "dot"})
    legend = {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"}
    style(figure, theme, rows_height(len(layers)) + 20, xaxis={"title": {"text": unit}}, yaxis=row_axis(layers))
    return figure.update_layout(showlegend=True, legend=legend, margin_t=44)


def share_rows(
    names: Sequence[str],
    shares: np.ndarray,
    bounds: np.ndarray,
    stands: np.ndarray,
    texts: Sequence[str],
    overall: float,
    color: str,
    theme: Theme,
    axis: str,
) -> go.Figure:
    """Draw a share per row with its interval, from top to bottom; the dashed line is the share of all tokens.

    Args:
        names: names of the rows.
        shares: the share of each row; NaN leaves the row empty.
        bounds: lower and upper bound, [row, 2]; NaN: no interval.
        stands: whether a row has a colour; the others are grey.
        texts: hover texts.
        overall: the share of all tokens.
        color: colour of the rows that stand.
        theme: colours.
        axis: title of the axis of shares.
    """
    marks = go.Scatter(
        x=shares, y=list(names), mode="markers", marker={"size": 10, "color": np.where(stands, color, theme.muted)},
        error_x=_interval(shares, bounds, theme), text=list(texts), hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    figure = go.Figure(marks)
    figure.add_vline(overall, line={"color": theme.ink, "width": 1, "dash": "dash"})
    xaxis = {"title": {"text": axis}, "tickformat": ".1~%", "rangemode": "tozero"}
    yaxis = {"autorange": "reversed", "type": "category", "dtick": 1}
    return style(figure, theme, 90 + 26 * max(4, len(names)), xaxis=xaxis, yaxis=yaxis)


def share_profile(
    names: Sequence[str],
    shares: np.ndarray,
    bounds: np.ndarray,
    overall: float,
    texts: Sequence[str],
    color: str,
    theme: Theme,
    axis: str,
) -> go.Figure:
    """Draw a share along ordered buckets as a line with its interval; the dashed line is the share of all tokens.

    Args:
        names: names of the buckets, in order.
        shares: the share in each bucket; NaN leaves a gap.
        bounds: lower and upper bound, [bucket, 2]; NaN where too few documents have the bucket.
        overall: the share of all tokens.
        texts: hover texts.
        color: colour of the line.
        theme: colours.
        axis: title of the axis of buckets.
    """
    x = np.arange(len(names))
    line = go.Scatter(
        x=x, y=shares, mode="lines+markers", line={"color": color, "width": 1.5}, marker={"size": 8},
        error_y=_interval(shares, bounds, theme), text=list(texts), hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    figure = go.Figure(line)
    figure.add_hline(overall, line={"color": theme.ink, "width": 1, "dash": "dash"})
    step = -(-len(names) // 8)
    xaxis = {"tickvals": x[::step], "ticktext": np.array(names)[::step], "title": {"text": axis}, "showgrid": False}
    yaxis = {"tickformat": ".1~%", "rangemode": "tozero"}
    return style(figure, theme, 300, xaxis=xaxis, yaxis=yaxis)


def _interval(shares: np.ndarray, bounds: np.ndarray, theme: Theme) -> dict[str, Any]:
    """Return the error bars from lower to upper bound, [mark, 2]."""
    bars = {"type": "data", "symmetric": False, "array": bounds[:, 1] - shares, "arrayminus": shares - bounds[:, 0]}
    return bars | {"color": theme.muted, "thickness": 1.5, "width": 4}


def share_map(
    shares_RC: np.ndarray,
    texts_RC: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    theme: Theme,
    axis: str,
    words: str = "",
) -> go.Figure:
    """Draw rows x columns: a share from 0 to the largest one.

    Args:
        shares_RC: the shares, [row, column]; NaN leaves the cell blank.
        texts_RC: hover texts.
        rows: names of the rows, the first at the bottom.
        columns: names of the columns.
        theme: colours.
        axis: title of the axis of columns.
        words: one line of grey text above the map.
    """
    top = float(np.nanmax(shares_RC, initial=1e-3))
    heatmap = go.Heatmap(
        z=shares_RC.astype(np.float32), zmin=0, zmax=top, colorscale=colorscale(theme.sequential), xgap=1, ygap=1,
        colorbar=color_bar("share", tickformat=".2~%"), text=texts_RC, hovertemplate="%{text}<extra></extra>",
        hoverongaps=False,
    )  # fmt: skip
    step = -(-len(columns) // 20)
    ticks = {"tickvals": np.arange(len(columns))[::step], "ticktext": np.array(columns)[::step], "showgrid": False}
    figure = style(
        go.Figure(heatmap), theme, rows_height(len(rows)), xaxis=ticks | {"title": {"text": axis}}, yaxis=row_axis(rows)
    )
    return note(figure, words, theme) if words else figure
