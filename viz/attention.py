"""Pictures of attention: rows are queries, columns keys, the first token at the top left.

Weights in (axes `head, query, key`), Plotly figures out. Colours follow the square root of a weight, so that small
ones stay visible; hovering says the weight itself. Pairs that lie in the future are left blank.
"""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from viz.axis import click_layer, color_bar
from viz.theme import MONO_FAMILY, Theme, colorscale, style

LABEL_PIXELS = 13  # one token's text along an axis
MAX_CELLS = 512  # rows of a picture; longer texts are drawn in blocks
MAX_CELL_POINTS = 64  # tokens up to which every cell is a point that can be clicked
THUMBNAIL_CELLS = 48


def attention_map(
    weights: xr.DataArray,
    theme: Theme,
    labels: Sequence[str] | None = None,
    origin: str = "measured",
    height: int = 760,
) -> go.Figure:
    """One head, large. A click reports `customdata` (query, key), or (query, -1) where tokens are too many.

    Args:
        weights: [query, key].
        theme: colours.
        labels: the tokens' visible text; drawn along both sides where they fit (48 at 760 pixels), else positions.
        origin: tag of the numbers on hover.
        height: pixels.
    """
    values = weights.transpose("query", "key").values
    name = f"attention %{{z:.3~g}} ({origin})"
    picture = _weight_map(values, theme, colorscale(theme.sequential, companded=True), name, "attention")
    return _square(picture, len(values), theme, labels, height)


def rollout_map(
    reached: xr.DataArray, theme: Theme, labels: Sequence[str] | None = None, height: int = 760
) -> go.Figure:
    """How much of each key reaches each query through the layers so far, [query, key], *derived*."""
    values = reached.transpose("query", "key").values
    scale = colorscale(theme.sequential, companded=True)
    picture = _weight_map(values, theme, scale, "rollout %{z:.3~g} (derived)", "rollout")
    return _square(picture, len(values), theme, labels, height)


def score_map(
    scores: xr.DataArray,
    theme: Theme,
    limit: float | None = None,
    labels: Sequence[str] | None = None,
    height: int = 420,
) -> go.Figure:
    """One part of a head's score before the softmax, [query, key], on the signed scale, *derived*.

    Args:
        scores: [query, key]; NaN is hidden by the causal mask.
        theme: colours.
        limit: both ends of the scale, in score units; the same for two parts that are compared; default: the largest.
        labels: the tokens' visible text.
        height: pixels.
    """
    values = scores.transpose("query", "key").values
    picture = _weight_map(values, theme, colorscale(theme.change), "score %{z:.3~g} (derived)", "score")
    bound = limit or score_limit(scores)
    picture.update(zmin=-bound, zmax=bound)
    return _square(picture, len(values), theme, labels, height)


def score_limit(*parts: xr.DataArray) -> float:
    """Largest size of any score in the parts, as the common end of their scales; 1 where there is none."""
    return max((float(np.nanmax(np.abs(part.values), initial=0)) for part in parts), default=0.0) or 1.0


def score_parts(
    content: xr.DataArray, position: xr.DataArray, theme: Theme, labels: Sequence[str] | None = None
) -> tuple[go.Figure, go.Figure]:
    """What the words and what the distance add to a head's score, two [query, key] maps on one scale."""
    limit = score_limit(content, position)
    return score_map(content, theme, limit, labels), score_map(position, theme, limit, labels)


def pooled(values: np.ndarray, max_cells: int) -> tuple[np.ndarray, int]:
    """Largest-in-size value of each block x block of the last two axes, so that at most `max_cells` rows remain.

    Returns:
        the smaller array, NaN where a block holds nothing but NaN, and the block's side in tokens.
    """
    length = values.shape[-1]
    block = -(-length // max_cells)
    if block == 1:
        return values, 1
    rest = -length % block
    padding = [(0, 0)] * (values.ndim - 2) + [(0, rest), (0, rest)]
    padded = np.pad(values.astype(np.float32), padding, constant_values=np.nan)
    side = (length + rest) // block
    tiles = padded.reshape(*values.shape[:-2], side, block, side, block)
    high, low = (reduce(reduce(tiles, axis=-1), axis=-2) for reduce in (np.fmax.reduce, np.fmin.reduce))
    return np.where(-low > high, low, high), block


def _weight_map(values: np.ndarray, theme: Theme, scale: list[list[float | str]], name: str, title: str) -> go.Heatmap:
    length = len(values)
    shown, block = pooled(np.where(np.tri(length, dtype=bool), values, np.nan).astype(np.float32), MAX_CELLS)
    place = (
        "query %{y}, key %{x}" if block == 1 else f"largest of {block} × {block} tokens from query %{{y}}, key %{{x}}"
    )
    return go.Heatmap(
        z=shown,
        x0=(block - 1) / 2,
        y0=(block - 1) / 2,
        dx=block,
        dy=block,
        zmin=0,
        zmax=max(float(np.nanmax(shown, initial=0)), 1e-6),
        colorscale=scale,
        colorbar=color_bar(title),
        hoverongaps=False,
        hovertemplate=f"{place}<br>{name}<extra></extra>",
    )


def _square(picture: Any, length: int, theme: Theme, labels: Sequence[str] | None, height: int) -> go.Figure:
    """Both axes alike, the first query at the top, and points to click above the cells."""
    fits = labels is not None and LABEL_PIXELS * length <= height - 130
    # Plotly reads tags in its texts, and these are a user's.
    named = [html.escape(_shortened(label), quote=False) for label in labels or ()] if fits else None
    few = length <= MAX_CELL_POINTS
    figure = go.Figure(picture)
    figure.add_trace(_cell_points(picture.z, named, picture.hovertemplate) if few else _query_points(length))
    if few:
        figure.update_traces(hoverinfo="skip", hovertemplate=None, selector={"type": "heatmap"})
    axis: dict[str, Any] = {"showgrid": False, "constrain": "domain"}
    if named is not None:
        font = {"family": MONO_FAMILY, "size": 12}
        axis |= {"tickvals": np.arange(length), "ticktext": np.array(named), "tickfont": font}
    down = axis | {"range": [length - 0.5, -0.5], "scaleanchor": "x", "title": {"text": "query"}}
    left = -0.5 if few else -length / 25
    keys = axis | {"range": [left, length - 0.5], "title": {"text": "key"}, "tickangle": -90 if fits else 0}
    return style(figure, theme, height, xaxis=keys, yaxis=down, hoverdistance=20 if few else 4)


def _shortened(label: str) -> str:
    return label[:11] + "…" if len(label) > 12 else label or " "


def _cell_points(z: np.ndarray, labels: Sequence[str] | None, hover: str) -> go.Scattergl:
    queries, keys = np.tril_indices(len(z))
    x, y = keys.astype(np.float32), queries.astype(np.float32)
    pairs = np.column_stack([queries, keys, z[queries, keys]]).astype(np.float32)
    hover = (
        hover.replace("%{y}", "%{customdata[0]}").replace("%{x}", "%{customdata[1]}").replace("{z:", "{customdata[2]:")
    )
    if labels is None:
        return click_layer(x, y, customdata=pairs, hovertemplate=hover)
    named = np.array(labels, dtype=object)
    text = named[queries] + " → " + named[keys]
    return click_layer(x, y, customdata=pairs, text=text, hovertemplate="%{text}<br>" + hover)


def _query_points(length: int) -> go.Scattergl:
    """One point per query left of its row, where cells are too many for a point each."""
    places = np.arange(length, dtype=np.float32)
    left = np.full(length, -length / 50, dtype=np.float32)
    data = np.column_stack([places, np.full(length, -1)]).astype(np.float32)
    return click_layer(left, places, customdata=data, hovertemplate="query %{customdata[0]}<extra></extra>")


def head_thumbnails(
    weights: xr.DataArray, theme: Theme, order: Sequence[int] | None = None, selected: int | None = None
) -> go.Figure:
    """All heads of a layer, small, in one picture; a click reports `customdata` (head).

    Each is scaled to its own largest weight, so it shows where a head looks and not how strongly.

    Args:
        weights: [head, query, key].
        theme: colours.
        order: head numbers in the order to draw; default as they stand.
        selected: head to frame.
    """
    heads = [int(head) for head in (order if order is not None else head_numbers(weights))]
    chosen = weights.assign_coords(head=head_numbers(weights)).sel(head=heads)
    small, _ = pooled(chosen.transpose("head", "query", "key").values, THUMBNAIL_CELLS)
    side, columns = small.shape[-1], min(len(heads), 8 if len(heads) <= 32 else 16)
    rows, step = -(-len(heads) // columns), side + _gap(side)
    left, top = np.arange(len(heads)) % columns * step - 0.5, np.arange(len(heads)) // columns * step - 0.5
    scale = colorscale(theme.sequential)
    picture = go.Heatmap(
        z=_mosaic(small, columns), zmin=0, zmax=255, colorscale=scale, showscale=False, hoverinfo="skip"
    )
    figure = go.Figure([picture, _frames(left, top, side, theme.grid, 1)])
    if selected in heads:
        place = slice(heads.index(selected), heads.index(selected) + 1)
        figure.add_trace(_frames(left[place], top[place], side, theme.ink, 2))
    names = np.array([f"head {head}" if columns <= 8 else f"{head}" for head in heads])
    middle = left + side / 2
    figure.add_scatter(x=middle, y=top, text=names, mode="text", textposition="top center", hoverinfo="skip")
    figure.add_trace(_thumbnail_points(middle, top + side / 2, heads))
    hidden = {"visible": False, "range": [-1, columns * step - _gap(side)]}
    down = {"visible": False, "range": [rows * step, -0.35 * step], "scaleanchor": "x"}
    return style(figure, theme, 40 + rows * (125 if columns <= 8 else 68), xaxis=hidden, yaxis=down)


def head_numbers(weights: xr.DataArray) -> np.ndarray:
    """Labels of the `head` axis, or 0 to n - 1."""
    return weights.coords["head"].values if "head" in weights.coords else np.arange(weights.sizes["head"])


def _gap(side: int) -> int:
    return max(1, round(0.35 * side))


def _mosaic(small: np.ndarray, columns: int) -> np.ndarray:
    """Heads [head, query, key] laid out in rows, uint8 by square root of the share of each head's largest weight."""
    largest = np.nanmax(small, axis=(-2, -1), keepdims=True, initial=1e-9)
    pixels = np.round(255 * np.sqrt(np.nan_to_num(small) / largest)).astype(np.uint8)
    side, gap = small.shape[-1], _gap(small.shape[-1])
    rows = -(-len(small) // columns)
    mosaic = np.zeros((rows * (side + gap), columns * (side + gap)), dtype=np.uint8)
    for place, pixel in enumerate(pixels):
        row, column = place // columns * (side + gap), place % columns * (side + gap)
        mosaic[row : row + side, column : column + side] = pixel
    return mosaic


def _thumbnail_points(x: np.ndarray, y: np.ndarray, heads: list[int]) -> go.Scattergl:
    points = click_layer(
        x, y, customdata=np.array(heads)[:, None], hovertemplate="head %{customdata[0]}<extra></extra>"
    )
    return points.update(marker_size=64)


def _frames(left: np.ndarray, top: np.ndarray, side: int, color: str, width: int) -> go.Scatter:
    """Squares as one broken line; a hundred shapes would take seconds to add."""
    gap = np.full(len(left), np.nan)
    x = np.stack([left, left + side, left + side, left, left, gap], axis=1).ravel()
    y = np.stack([top, top, top + side, top + side, top, gap], axis=1).ravel()
    return go.Scatter(x=x, y=y, mode="lines", line={"color": color, "width": width}, hoverinfo="skip")


def score_by_distance(parts: dict[str, xr.DataArray], theme: Theme) -> go.Figure:
    """Mean score against how many tokens back the key lies, one line per part, each [distance]; *derived*."""
    figure = go.Figure()
    strokes = zip(parts.items(), (theme.change[0], theme.change[-1], theme.ink), ("solid", "dash", "dot"), strict=False)
    for (name, values), color, dash in strokes:
        hover = f"{name}: %{{y:.3~g}}<br>%{{x}} tokens back (derived)<extra></extra>"
        known = np.arange(values.sizes["distance"])
        line = {"color": color, "dash": dash, "width": 2}
        figure.add_scatter(x=known, y=values.values, mode="lines", name=name, line=line, hovertemplate=hover)
    legend = {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"}
    axes = {"xaxis": {"title": {"text": "tokens back"}}, "yaxis": {"title": {"text": "mean score"}}}
    return style(figure, theme, 280, showlegend=True, legend=legend, **axes)
