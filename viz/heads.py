"""Figures of attention heads: a query's weights, statistics per head, scores by distance, size of the KV cache.

Takes labelled numbers (axes `head`, `key`, `part`, `distance`, `attention_layer`, `statistic`); returns Plotly figures.
"""

import html
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from viz.axis import click_layer, grid_points, note, rows_height
from viz.theme import MONO_FAMILY, Theme, colorscale, style, translucent
from viz.thumbnails import head_numbers

# Statistic of a head -> title of its panel, and end of its axis (None: the largest value).
PANELS = {
    "entropy": ("entropy, share of the maximum", 1),
    "first_token_share": ("share on the first token", 1),
    "mean_distance": ("mean distance, tokens", None),
}
GAP = 0.06  # gap between panels, as a share of the width
MAX_WRITTEN = 4  # number of heads above which a map's cells show no numbers


def largest_weights(
    row: xr.DataArray, labels: Sequence[str], theme: Theme, origin: str = "measured", count: int = 12, title: str = ""
) -> go.Figure:
    """Draw the largest attention weights of one query as bars, largest first; the last bar sums all other keys.

    A click reports `customdata`: the key, or -1 for the bar of all other keys.

    Args:
        row: attention weights of the query, [key], of the keys that it can see.
        labels: label of each key.
        theme: colours.
        origin: how the numbers came about, such as `measured`; the hover text says it.
        count: number of keys with a bar of their own.
        title: one line above the chart.
    """
    weights = row.values
    keys = np.argsort(-weights, kind="stable")[:count]
    names = [f"{key}  {html.escape(str(labels[key])[:20], quote=False)}" for key in keys.tolist()]
    shown, colors = weights[keys], [theme.sequential[-3]] * len(keys)
    if len(weights) > len(keys):
        names.append(f"{len(weights) - len(keys)} others")
        shown, keys = np.append(shown, 1 - shown.sum()).clip(0), np.append(keys, -1)
        colors.append(theme.muted)
    hover = f"%{{text}}<br>attention %{{x:.3~g}} ({origin})<extra></extra>"
    figure = go.Figure(
        go.Bar(x=shown, y=np.arange(len(keys)), orientation="h", marker_color=colors, text=np.array(names),
               textposition="none", customdata=keys[:, None], hovertemplate=hover)
    )  # fmt: skip
    font = {"family": MONO_FAMILY, "size": 12}
    down = {"tickvals": np.arange(len(keys)), "ticktext": np.array(names), "tickfont": font, "showgrid": False}
    across = {"range": [0, max(0.05, 1.05 * float(shown.max()))], "title": {"text": "attention"}}
    height = rows_height(count + 1, 26)
    figure = note(figure, title, theme) if title else figure
    return style(figure, theme, height, xaxis=across, yaxis=down | {"range": [count + 0.6, -0.6]})


def head_panels(
    summary: xr.Dataset, theme: Theme, order: Sequence[int] | None = None, selected: int | None = None
) -> go.Figure:
    """Draw a panel per statistic of a layer's heads: a dot at the mean, a line over the middle 80 % of the queries.

    A click reports `customdata` (head).

    Args:
        summary: the variables of `PANELS`, each [statistic, head], computed from attention weights; the axis
            `statistic` has `mean`, `low` and `high`.
        theme: colours.
        order: head numbers from top to bottom; default: in the order of `summary`.
        selected: head to shade.
    """
    heads = [int(head) for head in (order if order is not None else head_numbers(summary["entropy"]))]
    rows, figure = np.arange(len(heads)), go.Figure()
    layout = {}
    for number, (name, (title, end)) in enumerate(PANELS.items(), 1):
        low, mean, high = (summary[name].sel(statistic=which, head=heads).values for which in ("low", "mean", "high"))
        axes = {"xaxis": f"x{number}", "yaxis": "y"}
        figure.add_trace(go.Scatter(**_strokes(low, high, rows), mode="lines", hoverinfo="skip", **axes))
        figure.data[-1].line = {"color": translucent(theme.sequential[-3], 0.45), "width": 5}
        hover = f"head %{{customdata[0]}}<br>{title}: %{{x:.3~g}}<br>"
        hover += "middle 80 % from %{customdata[1]:.3~g} to %{customdata[2]:.3~g} (derived)<extra></extra>"
        data, marker = np.column_stack([heads, low, high]), {"color": theme.sequential[-2], "size": 11}
        figure.add_scatter(x=mean, y=rows, mode="markers", marker=marker, customdata=data, hovertemplate=hover, **axes)
        most = end or max(float(np.nanmax(high, initial=0)), 1)
        layout[f"xaxis{number}"] = _panel(number) | {"range": [-0.03 * most, 1.04 * most], "title": {"text": title}}
    if selected in heads:
        row = heads.index(selected)
        figure.add_hrect(row - 0.5, row + 0.5, fillcolor=theme.shade, line_width=0, layer="below")
    names = np.array([f"head {head}" for head in heads])
    down = {"tickvals": rows, "ticktext": names, "range": [len(heads) - 0.4, -0.6], "showgrid": False}
    return style(figure, theme, rows_height(len(heads), 26, 2600), yaxis=down, **layout)


def layer_maps(means: xr.Dataset, theme: Theme, selected: tuple[int, int] | None = None) -> go.Figure:
    """Draw a map of layers x heads per statistic, the first layer at the bottom.

    A click reports `customdata` (layer, head).

    Args:
        means: the variables of `PANELS`, each [attention_layer, head], computed from attention weights.
        theme: colours.
        selected: layer and head to frame.
    """
    layers, heads = means["attention_layer"].values, head_numbers(means["entropy"])
    rows, columns = np.arange(len(layers)), np.arange(len(heads))
    figure, layout = go.Figure(), {}
    x, y = grid_points(columns, rows)
    pairs = np.column_stack([layers[y.astype(int)], heads[x.astype(int)]])
    for number, (name, (title, end)) in enumerate(PANELS.items(), 1):
        values, axes = means[name].transpose("attention_layer", "head").values, {"xaxis": f"x{number}", "yaxis": "y"}
        written = {"texttemplate": "%{z:.2~f}", "textfont": {"size": 12}} if len(heads) <= MAX_WRITTEN else {}
        bounds = {"zmin": 0, "zmax": end or max(float(np.nanmax(values, initial=0)), 1e-6)}
        figure.add_heatmap(
            z=values.astype(np.float32), colorscale=colorscale(theme.sequential), showscale=False, hoverinfo="skip",
            **written, **bounds, **axes,
        )  # fmt: skip
        hover = f"L%{{customdata[0]}} head %{{customdata[1]}}<br>{title}: %{{customdata[2]:.3~g}} (derived)"
        data = np.column_stack([pairs, values.ravel()])
        points = click_layer(x, y, customdata=data, hovertemplate=hover + "<extra></extra>", **axes)
        figure.add_trace(points.update(marker_size=20))
        layout[f"xaxis{number}"] = _panel(number) | _head_axis(heads, title)
        if selected is not None and selected[0] in layers and selected[1] in heads:
            left, low = heads.tolist().index(selected[1]) - 0.5, layers.tolist().index(selected[0]) - 0.5
            figure.add_scatter(
                x=[left, left + 1, left + 1, left, left], y=[low, low, low + 1, low + 1, low], mode="lines",
                line={"color": theme.ink, "width": 2}, hoverinfo="skip", **axes,
            )  # fmt: skip
    up = np.arange(0, len(layers), -(-len(layers) // 20))
    named = {"tickvals": up, "ticktext": np.array([f"L{layers[row]}" for row in up])}
    return style(figure, theme, rows_height(len(layers), 40), yaxis=named | {"showgrid": False}, **layout)


def parts_by_distance(parts: xr.DataArray, theme: Theme, selected: int | None = None) -> go.Figure:
    """Draw the mean attention score by distance from query to key, a panel per part of the score, on one scale.

    A thin line is a head, the strong line the mean over heads, and the coloured line the selected head.

    Args:
        parts: computed mean score before the softmax, [part, head, distance]; distances in tokens.
        theme: colours.
        selected: head to draw in colour.
    """
    figure, layout = go.Figure(), {}
    distances, mean = parts["distance"].values, parts.mean("head")
    for number, part in enumerate(parts["part"].values.tolist(), 1):
        shared = {"mode": "lines", "showlegend": number == 1, "xaxis": f"x{number}", "yaxis": "y"}
        x, y = _one_broken_line(distances, parts.sel(part=part).values)
        thin = {"color": translucent(theme.muted, 0.45), "width": 1}
        figure.add_scatter(x=x, y=y, line=thin, name="each head", hoverinfo="skip", **shared)
        lines = [("mean of heads", mean.sel(part=part).values, theme.ink, "solid")]
        if selected in parts["head"].values:
            lines.append((f"head {selected}", parts.sel(part=part, head=selected).values, theme.change[0], "dash"))
        for name, values, color, dash in lines:
            hover = f"{name}, {part}: %{{y:.3~g}}<br>%{{x}} tokens back (derived)<extra></extra>"
            line = {"color": color, "dash": dash, "width": 2}
            figure.add_scatter(x=distances, y=values, line=line, name=name, hovertemplate=hover, **shared)
        layout[f"xaxis{number}"] = _panel(number, 2) | {"title": {"text": f"{part} part, tokens back"}}
    legend = {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"}
    return style(figure, theme, 320, showlegend=True, legend=legend, yaxis={"title": {"text": "mean score"}}, **layout)


def cache_bars(sizes: dict[str, int], texts: dict[str, str], own: str, theme: Theme, title: str) -> go.Figure:
    """Draw the size of the KV cache with each kind of attention as bars on a linear scale.

    Args:
        sizes: computed bytes by kind of attention, in the order to draw.
        texts: labels of the bars by kind of attention: the formatted sizes.
        own: kind of attention that the model uses; its bar is coloured.
        theme: colours.
        title: one line above the chart.
    """
    names, rows = list(sizes), np.arange(len(sizes))
    colors = [theme.sequential[-3] if name == own else theme.muted for name in names]
    labels, most = np.array([texts[name] for name in names]), max(sizes.values())
    hover = "%{text} (derived)<extra></extra>"
    figure = go.Figure(
        go.Bar(x=np.array(list(sizes.values()), dtype=float) / most, y=rows, orientation="h", marker_color=colors,
               text=labels, textposition="outside", cliponaxis=False, hovertemplate=hover, width=0.6)
    )  # fmt: skip
    down = {"tickvals": rows, "ticktext": np.array(names), "showgrid": False, "range": [len(names) - 0.4, -0.6]}
    across = {"range": [0, 1.35], "showticklabels": False, "showgrid": False, "ticks": ""}
    return style(note(figure, title, theme), theme, rows_height(len(names), 32), xaxis=across, yaxis=down)


def _one_broken_line(x: np.ndarray, lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of all `lines` [line, x] as one line with gaps."""
    gaps = np.full((len(lines), 1), np.nan)
    return np.tile(np.append(x, np.nan), len(lines)), np.hstack([lines, gaps]).ravel()


def _panel(number: int, count: int = len(PANELS)) -> dict[str, object]:
    """Return the x axis settings of panel `number` of `count`, counted from 1: its share of the figure's width."""
    width = (1 - GAP * (count - 1)) / count
    left = (number - 1) * (width + GAP)
    return {"domain": [left, left + width]}


def _head_axis(heads: np.ndarray, title: str) -> dict[str, object]:
    shown = np.arange(0, len(heads), -(-len(heads) // 8))
    named = np.array([f"{heads[column]}" for column in shown])
    return {"tickvals": shown, "ticktext": named, "showgrid": False, "title": {"text": f"head<br>{title}"}}


def _strokes(low: np.ndarray, high: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return x and y of a horizontal line from `low` to `high` in each row, all as one line with gaps."""
    gap = np.full(len(rows), np.nan)
    return {"x": np.stack([low, high, gap], 1).ravel(), "y": np.stack([rows, rows, gap], 1).ravel()}
