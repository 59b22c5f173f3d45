"""Attention maps as figures: rows are queries, columns keys, the first token at the top left.

A map consists of cells (axes `query` and `key`). A cell covers one pair or a block of pairs of tokens; it is NaN if the
causal mask hides all of them. The coordinates `query` and `query_end`, `key` and `key_end` give the tokens that a cell
covers. Without them a cell is one pair, and the map starts at the first token. Colours follow the square root of a
weight, to keep small weights visible; the hover text has the weight itself. A click reports `customdata` (query, key,
value) of the cell's first pair. On a map with many cells a click reports the strongest cell nearby.
"""

import html
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from viz.axis import click_layer, color_bar, note
from viz.theme import MONO_FAMILY, Theme, colorscale, style

MAP_PIXELS = 660  # height of a map, with axes and colour bar
LABEL_PIXELS = 13  # pixels of one token's text along an axis
AXIS_PIXELS = 170  # pixels of axes and colour bar around a map with token names
MAX_POINT_ROWS = 100  # cells per side; a larger map has one point per tile of cells, at the strongest


def attention_map(
    weights: xr.DataArray,
    theme: Theme,
    labels: Sequence[str] | None = None,
    origin: str = "measured",
    height: int = MAP_PIXELS,
    token: int | None = None,
    title: str = "",
    of_cell: str = "largest",
) -> go.Figure:
    """Draw the attention map of one head, of all tokens or some.

    Args:
        weights: attention weight of each cell, [query, key]; see the module for cells.
        theme: colours.
        labels: the visible text of all tokens, drawn along both axes if all fit (37 at 660 pixels). Otherwise, or if
            None, the axes have token positions.
        origin: how the numbers came about, such as `measured`; the hover text says it.
        height: height in pixels; labels are drawn as if the figure had this width too.
        token: token whose row (the keys it attends to) and column (the queries that attend to it) are framed.
        title: one line above the map.
        of_cell: statistic of its pairs that a cell shows, `largest` or `mean`; the hover text and the axis title name
            it. It has no effect on a map whose cells are single pairs.
    """
    heatmap = _weight_map(weights, theme, "attention")
    return _square(
        heatmap, weights, theme, labels, height, f"attention %{{customdata[2]:.3~g}} ({origin})", token, title, of_cell
    )


def rollout_map(
    reached: xr.DataArray,
    theme: Theme,
    labels: Sequence[str] | None = None,
    height: int = MAP_PIXELS,
    token: int | None = None,
    title: str = "",
    of_cell: str = "largest",
) -> go.Figure:
    """Draw attention rollout: `reached` [query, key] is the computed share of each key in each query's output."""
    heatmap = _weight_map(reached, theme, "rollout")
    return _square(
        heatmap, reached, theme, labels, height, "rollout %{customdata[2]:.3~g} (derived)", token, title, of_cell
    )


def score_map(
    scores: xr.DataArray,
    theme: Theme,
    limit: float | None = None,
    labels: Sequence[str] | None = None,
    height: int = 460,
    token: int | None = None,
    title: str = "",
    of_cell: str = "largest",
) -> go.Figure:
    """Draw one part of a head's score before the softmax, [query, key], on the signed scale.

    Args:
        scores: computed score of each cell, [query, key], NaN under the causal mask; see the module for cells.
        theme: colours.
        limit: largest absolute score of the colour scale, shared by compared maps; default: the largest in `scores`.
        labels: the visible text of all tokens.
        height: height in pixels.
        token: token whose row and column are framed.
        title: one line above the map.
        of_cell: statistic of its pairs that a cell shows, `largest` or `mean`; the hover text and the axis title name
            it. It has no effect on a map whose cells are single pairs.
    """
    bound = limit or score_limit(scores)
    heatmap = _heatmap(scores, "score", colorscale=colorscale(theme.change), zmin=-bound, zmax=bound)
    return _square(
        heatmap, scores, theme, labels, height, "score %{customdata[2]:.3~g} (derived)", token, title, of_cell
    )


def score_limit(*parts: xr.DataArray) -> float:
    """Return the largest absolute score of all `parts`, the common end of their scales; 1 if all are zero or NaN."""
    return max((float(np.nanmax(np.abs(part.values), initial=0)) for part in parts), default=0.0) or 1.0


class _Span(NamedTuple):
    """The tokens that the cells along one axis cover: the first of each cell, and the first after each cell."""

    starts: np.ndarray
    ends: np.ndarray

    @property
    def side(self) -> int:
        """The number of tokens per cell; the last cell may have fewer."""
        return int(self.ends[0] - self.starts[0])

    @property
    def bounds(self) -> tuple[int, int]:
        return int(self.starts[0]), int(self.ends[-1])

    @property
    def length(self) -> int:
        return self.bounds[1] - self.bounds[0]


def _span(values: xr.DataArray, dim: str) -> _Span:
    starts = values.coords[dim].values if dim in values.coords else np.arange(values.sizes[dim])
    return _Span(starts, values.coords[f"{dim}_end"].values if f"{dim}_end" in values.coords else starts + 1)


def _weight_map(weights: xr.DataArray, theme: Theme, title: str) -> go.Heatmap:
    most = max(float(np.nanmax(weights.values, initial=0)), 1e-6)
    scale = colorscale(theme.sequential, companded=True)
    return _heatmap(weights, title, colorscale=scale, zmin=0, zmax=most)


def _heatmap(values: xr.DataArray, title: str, **colors: Any) -> go.Heatmap:
    down, across = _span(values, "query"), _span(values, "key")
    return go.Heatmap(
        z=values.transpose("query", "key").values.astype(np.float32),
        x0=across.bounds[0] + (across.side - 1) / 2,
        y0=down.bounds[0] + (down.side - 1) / 2,
        dx=across.side,
        dy=down.side,
        colorbar=color_bar(title),
        hoverinfo="skip",
        **colors,
    )


def _square(
    heatmap: Any,
    values: xr.DataArray,
    theme: Theme,
    labels: Sequence[str] | None,
    height: int,
    name: str,
    token: int | None,
    title: str,
    of_cell: str,
) -> go.Figure:
    """Return the figure of a map: first query at the top, square if both axes have equally many tokens, clickable."""
    down, across = _span(values, "query"), _span(values, "key")
    # Plotly interprets tags in texts, and these texts are a user's.
    named = None if labels is None else [html.escape(_shortened(label), quote=False) for label in labels]
    single = down.side == across.side == 1
    prefix = "" if single else f"{of_cell} "
    figure = go.Figure([heatmap, _points(values, down, across, named, prefix + name)])
    if token is not None:
        figure.add_trace(_cross(token, down, across, theme))
    shared: dict[str, Any] = {"showgrid": False, "constrain": "domain", "ticks": "outside", "ticklen": 4}
    keys = shared | _ends(across) | _names(across, named, height) | {"title": {"text": "key"}}
    if not single:
        keys["title"] = {"text": f"key (each cell is the {of_cell} of {down.side} x {across.side})"}
    keys["tickangle"] = -90 if "ticktext" in keys else 0
    queries = shared | _ends(down, upwards=True) | _names(down, named, height) | {"title": {"text": "query"}}
    if down.length == across.length:
        queries["scaleanchor"] = "x"
    return style(note(figure, title, theme) if title else figure, theme, height, xaxis=keys, yaxis=queries)


def _ends(span: _Span, upwards: bool = False) -> dict[str, Any]:
    ends = [span.bounds[0] - 0.5, span.bounds[1] - 0.5]
    return {"range": ends[::-1] if upwards else ends}


def _names(span: _Span, named: Sequence[str] | None, height: int) -> dict[str, Any]:
    """Return the names of tokens as tick texts of an axis; an empty dict if they do not all fit."""
    if named is None or LABEL_PIXELS * span.length > height - AXIS_PIXELS:
        return {}
    first, end = span.bounds
    font = {"family": MONO_FAMILY, "size": 12}
    return {"tickvals": np.arange(first, end), "ticktext": np.array(named[first:end]), "tickfont": font}


def _shortened(label: str) -> str:
    return label[:11] + "…" if len(label) > 12 else label or " "


def _points(values: xr.DataArray, down: _Span, across: _Span, labels: Sequence[str] | None, name: str) -> go.Scattergl:
    shown = values.transpose("query", "key").values
    rows, columns = _strongest(shown)
    queries, keys = down.starts[rows], across.starts[columns]
    last = down.ends[rows] - 1, across.ends[columns] - 1
    data = np.column_stack([queries, keys, shown[rows, columns], *last]).astype(np.float32)
    single = down.side == across.side == 1
    where = "query %{customdata[0]}, key %{customdata[1]}"
    if not single:
        where = "queries %{customdata[0]} to %{customdata[3]}, keys %{customdata[1]} to %{customdata[4]}"
    hover = f"{where}<br>{name}<extra></extra>"
    points: dict[str, Any] = {"customdata": data, "hovertemplate": hover}
    if labels is not None and single:
        named = np.array(labels, dtype=object)
        points |= {"text": named[queries] + " → " + named[keys], "hovertemplate": "%{text}<br>" + hover}
    middle = (keys + last[1]) / 2, (queries + last[0]) / 2
    return click_layer(middle[0].astype(np.float32), middle[1].astype(np.float32), **points)


def _strongest(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns of all cells with a value; on a large map, only of the strongest cell per tile."""
    down, across = (-(-length // MAX_POINT_ROWS) for length in values.shape)
    if down == across == 1:
        rows, columns = np.nonzero(~np.isnan(values))
        return rows, columns
    padding = [(0, -length % side) for length, side in zip(values.shape, (down, across), strict=True)]
    sizes = np.pad(np.nan_to_num(np.abs(values), nan=-1), padding, constant_values=-1)
    tiles = sizes.reshape(sizes.shape[0] // down, down, -1, across).swapaxes(1, 2)
    flat = tiles.reshape(*tiles.shape[:2], -1)
    rows, columns = np.nonzero(flat.max(-1) >= 0)
    best = flat.argmax(-1)[rows, columns]
    return rows * down + best // across, columns * across + best % across


def _cross(token: int, down: _Span, across: _Span, theme: Theme) -> go.Scatter:
    """Draw frames around a token's row and column; in a long text they are wide enough to leave the cells visible."""
    (top, bottom), (left, right) = (np.array(span.bounds) - 0.5 for span in (down, across))
    x: list[float | None] = []
    y: list[float | None] = []
    if top < token < bottom and left <= token:
        low, high = _around(token, down)
        end = min(right, token + max(0.5, across.length / 200))
        x, y = [left, end, end, left, left, None], [low, low, high, high, low, None]
    if left < token < right and token <= bottom:
        low, high = _around(token, across)
        start = max(top, token - max(0.5, down.length / 200))
        x, y = [*x, low, high, high, low, low], [*y, start, start, bottom, bottom, start]
    return go.Scatter(x=x, y=y, mode="lines", line={"color": theme.ink, "width": 1}, hoverinfo="skip")


def _around(token: int, span: _Span) -> tuple[float, float]:
    half = max(0.5, span.length / 200)
    return token - half, token + half
