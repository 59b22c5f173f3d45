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

from viz.axis import click_layer
from viz.theme import MONO_FAMILY, Theme, colorscale, style

MAX_LABELS = 48  # tokens whose text fits along an axis
MAX_CELLS = 512  # rows of a picture; longer texts are drawn in blocks
THUMBNAIL_CELLS = 48


def attention_map(
    weights: xr.DataArray,
    theme: Theme,
    labels: Sequence[str] | None = None,
    origin: str = "measured",
    height: int = 560,
) -> go.Figure:
    """One head, large. A click reports `customdata` (query, key), or (query, -1) where tokens are too many.

    Args:
        weights: [query, key].
        theme: colours.
        labels: the tokens' visible text; drawn along both sides up to 48 tokens, else a position axis.
        origin: tag of the numbers on hover.
        height: pixels.
    """
    values = weights.transpose("query", "key").values
    name = f"attention %{{z:.3~g}} ({origin})"
    figure = go.Figure(_weight_map(values, theme, colorscale(theme.sequential, companded=True), name, "attention"))
    return _square(figure, len(values), theme, labels, height)


def rollout_map(
    reached: xr.DataArray, theme: Theme, labels: Sequence[str] | None = None, height: int = 560
) -> go.Figure:
    """How much of each key reaches each query through the layers so far, [query, key], *derived*."""
    values = reached.transpose("query", "key").values
    scale = colorscale(theme.sequential, companded=True)
    figure = go.Figure(_weight_map(values, theme, scale, "rollout %{z:.3~g} (derived)", "rollout"))
    return _square(figure, len(values), theme, labels, height)


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
    figure = go.Figure(_weight_map(values, theme, colorscale(theme.change), "score %{z:.3~g} (derived)", "score"))
    bound = limit or score_limit(scores)
    figure.update_traces(zmin=-bound, zmax=bound)
    return _square(figure, len(values), theme, labels, height)


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
    tiles = padded.reshape(*values.shape[:-2], side, block, side, block).swapaxes(-3, -2)
    tiles = tiles.reshape(*values.shape[:-2], side, side, block * block)
    size = np.where(np.isnan(tiles), -1, np.abs(tiles))
    return np.take_along_axis(tiles, size.argmax(-1)[..., None], -1)[..., 0], block


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
        colorbar={"thickness": 10, "title": {"text": title, "side": "right"}},
        hoverongaps=False,
        hovertemplate=f"{place}<br>{name}<extra></extra>",
    )


def _square(figure: go.Figure, length: int, theme: Theme, labels: Sequence[str] | None, height: int) -> go.Figure:
    """Both axes alike, the first query at the top, and points to click above the cells."""
    # Plotly reads tags in its texts, and these are a user's.
    labels = [html.escape(label, quote=False) for label in labels] if labels and length <= MAX_LABELS else None
    hover = figure.data[0].hovertemplate
    figure.add_trace(_cell_points(figure.data[0].z, labels, hover) if length <= 64 else _query_points(length))
    if length <= 64:
        figure.update_traces(hoverinfo="skip", hovertemplate=None, selector={"type": "heatmap"})
    axis: dict[str, Any] = {"range": [-0.5, length - 0.5], "showgrid": False, "constrain": "domain"}
    if labels is not None:
        text = np.array([label or " " for label in labels])
        axis |= {"tickvals": np.arange(length), "ticktext": text, "tickfont": {"family": MONO_FAMILY, "size": 12}}
    down = axis | {"range": [length - 0.5, -0.5], "scaleanchor": "x", "title": {"text": "query"}}
    keys = axis | {"title": {"text": "key"}, "tickangle": -90 if labels is not None else 0}
    return style(figure, theme, height, xaxis=keys, yaxis=down)


def _cell_points(z: np.ndarray, labels: Sequence[str] | None, hover: str) -> go.Scattergl:
    queries, keys = np.tril_indices(len(z))
    pairs = np.column_stack([queries, keys, z[queries, keys]]).astype(np.float32)
    hover = (
        hover.replace("%{y}", "%{customdata[0]}").replace("%{x}", "%{customdata[1]}").replace("{z:", "{customdata[2]:")
    )
    if labels is None:
        return click_layer(np.float32(keys), np.float32(queries), customdata=pairs, hovertemplate=hover)
    named = np.array(labels, dtype=object)
    text = named[queries] + " → " + named[keys]
    return click_layer(
        np.float32(keys), np.float32(queries), customdata=pairs, text=text, hovertemplate="%{text}<br>" + hover
    )


def _query_points(length: int) -> go.Scattergl:
    """One point per query on the diagonal, where cells are too many for a point each."""
    places = np.arange(length, dtype=np.float32)
    data = np.column_stack([places, np.full(length, -1)]).astype(np.float32)
    return click_layer(places, places, customdata=data, hovertemplate="query %{customdata[0]}<extra></extra>")


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
    named = weights.assign_coords(head=weights.coords["head"]) if "head" in weights.coords else weights
    heads = [int(head) for head in (order if order is not None else named["head"].values)]
    small, _ = pooled(named.sel(head=heads).transpose("head", "query", "key").values, THUMBNAIL_CELLS)
    columns = min(len(heads), 8 if len(heads) <= 32 else 16)
    mosaic, step = _mosaic(small, columns), small.shape[-1] + _gap(small.shape[-1])
    centre = (small.shape[-1] - 1) / 2
    x = np.arange(len(heads)) % columns * step + centre
    y = np.arange(len(heads)) // columns * step + centre
    scale = colorscale(theme.sequential)
    picture = go.Heatmap(z=mosaic, zmin=0, zmax=255, colorscale=scale, showscale=False, hoverinfo="skip")
    figure = go.Figure([picture, _thumbnail_points(x, y, heads)])
    for place, head in enumerate(heads):
        _frame(figure, x[place], y[place], centre + 0.5, theme.ink if head == selected else theme.grid)
        at = {"x": x[place], "y": y[place] - centre - 0.5, "yanchor": "bottom", "yshift": 0}
        figure.add_annotation(text=f"head {head}" if columns <= 8 else f"{head}", showarrow=False, font_size=12, **at)
    rows = -(-len(heads) // columns)
    hidden = {"visible": False, "range": [-1, columns * step - _gap(small.shape[-1])]}
    down = {"visible": False, "range": [rows * step, -0.25 * step], "scaleanchor": "x"}
    return style(figure, theme, 40 + rows * (110 if columns <= 8 else 70), xaxis=hidden, yaxis=down)


def _gap(side: int) -> int:
    return max(1, side // 4)


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


def _frame(figure: go.Figure, x: float, y: float, half: float, color: str) -> None:
    box = {"x0": x - half, "x1": x + half, "y0": y - half, "y1": y + half}
    figure.add_shape(type="rect", line={"color": color, "width": 1.5}, **box)


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
