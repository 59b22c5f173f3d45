"""Pictures of attention: rows are queries, columns keys, the first token at the top left.

Weights in (axes `head, query, key`), Plotly figures out. Colours follow the square root of a weight, so that small
ones stay visible; hovering says the weight itself. Pairs that lie in the future are left blank. A click on a map
reports `customdata` (query, key, value): of the cell, or in a long text of the strongest cell nearby.
"""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from viz.axis import click_layer, color_bar, note
from viz.theme import MONO_FAMILY, Theme, colorscale, style

MAP_PIXELS = 660  # side of a map, axes and colour bar included
LABEL_PIXELS = 13  # one token's text along an axis
AXIS_PIXELS = 170  # what stands around a map whose tokens are named
MAX_CELLS = 512  # rows of a picture; longer texts are drawn in blocks
MAX_POINT_ROWS = 100  # tokens up to which every cell is a point; beyond, the strongest of each block is one
THUMBNAIL_CELLS = 48


def attention_map(
    weights: xr.DataArray,
    theme: Theme,
    labels: Sequence[str] | None = None,
    origin: str = "measured",
    height: int = MAP_PIXELS,
    token: int | None = None,
    title: str = "",
) -> go.Figure:
    """One head, large.

    Args:
        weights: [query, key].
        theme: colours.
        labels: the tokens' visible text; drawn along both sides where they fit (37 at 660 pixels), else positions.
        origin: tag of the numbers on hover.
        height: pixels; labels suppose that the figure is as wide.
        token: its row (what it looks at) and its column (what looks at it) are framed.
        title: one line above the picture.
    """
    values = weights.transpose("query", "key").values
    name = f"attention %{{customdata[2]:.3~g}} ({origin})"
    picture = _weight_map(values, theme, colorscale(theme.sequential, companded=True), "attention")
    return _square(picture, values, theme, labels, height, name, token, title)


def rollout_map(
    reached: xr.DataArray,
    theme: Theme,
    labels: Sequence[str] | None = None,
    height: int = MAP_PIXELS,
    token: int | None = None,
    title: str = "",
) -> go.Figure:
    """How much of each key reaches each query through the layers so far, [query, key], *derived*."""
    values = reached.transpose("query", "key").values
    picture = _weight_map(values, theme, colorscale(theme.sequential, companded=True), "rollout")
    name = "rollout %{customdata[2]:.3~g} (derived)"
    return _square(picture, values, theme, labels, height, name, token, title)


def score_map(
    scores: xr.DataArray,
    theme: Theme,
    limit: float | None = None,
    labels: Sequence[str] | None = None,
    height: int = 460,
    token: int | None = None,
    title: str = "",
) -> go.Figure:
    """One part of a head's score before the softmax, [query, key], on the signed scale, *derived*.

    Args:
        scores: [query, key]; NaN is hidden by the causal mask.
        theme: colours.
        limit: both ends of the scale, in score units; the same for two parts that are compared; default: the largest.
        labels: the tokens' visible text.
        height: pixels.
        token: its row and its column are framed.
        title: one line above the picture.
    """
    values = scores.transpose("query", "key").values
    picture = _weight_map(values, theme, colorscale(theme.change), "score")
    bound = limit or score_limit(scores)
    picture.update(zmin=-bound, zmax=bound)
    return _square(picture, values, theme, labels, height, "score %{customdata[2]:.3~g} (derived)", token, title)


def score_limit(*parts: xr.DataArray) -> float:
    """Largest size of any score in the parts, as the common end of their scales; 1 where there is none."""
    return max((float(np.nanmax(np.abs(part.values), initial=0)) for part in parts), default=0.0) or 1.0


def pooled(values: np.ndarray, max_cells: int) -> tuple[np.ndarray, int]:
    """Largest-in-size value of each block x block of the last two axes, so that at most `max_cells` rows remain.

    Returns:
        the smaller array, NaN where a block holds nothing but NaN, and the block's side in tokens.
    """
    block = -(-values.shape[-1] // max_cells)
    if block == 1:
        return values, 1
    tiles = _tiles(values, block)
    high, low = (reduce(reduce(tiles, axis=-1), axis=-2) for reduce in (np.fmax.reduce, np.fmin.reduce))
    return np.where(-low > high, low, high), block


def _tiles(values: np.ndarray, block: int) -> np.ndarray:
    """The last two axes cut into [rows, block, columns, block], float32, filled up with NaN."""
    rest = -values.shape[-1] % block
    padding = [(0, 0)] * (values.ndim - 2) + [(0, rest), (0, rest)]
    padded = np.pad(values.astype(np.float32), padding, constant_values=np.nan)
    side = padded.shape[-1] // block
    return padded.reshape(*values.shape[:-2], side, block, side, block)


def _weight_map(values: np.ndarray, theme: Theme, scale: list[list[float | str]], title: str) -> go.Heatmap:
    shown, block = pooled(np.where(np.tri(len(values), dtype=bool), values, np.nan).astype(np.float32), MAX_CELLS)
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
        hoverinfo="skip",
    )


def _square(
    picture: Any,
    values: np.ndarray,
    theme: Theme,
    labels: Sequence[str] | None,
    height: int,
    name: str,
    token: int | None,
    title: str,
) -> go.Figure:
    """Both axes alike, the first query at the top, and points to hover and click above the cells."""
    length = len(values)
    fits = labels is not None and LABEL_PIXELS * length <= height - AXIS_PIXELS
    # Plotly reads tags in its texts, and these are a user's.
    named = None if labels is None else [html.escape(_shortened(label), quote=False) for label in labels]
    figure = go.Figure([picture, _points(values, named, name)])
    if token is not None:
        figure.add_trace(_cross(token, length, theme))
    axis: dict[str, Any] = {"showgrid": False, "constrain": "domain", "ticks": "outside", "ticklen": 4}
    if fits:
        font = {"family": MONO_FAMILY, "size": 12}
        axis |= {"tickvals": np.arange(length), "ticktext": np.array(named), "tickfont": font}
    down = axis | {"range": [length - 0.5, -0.5], "scaleanchor": "x", "title": {"text": "query"}}
    keys = axis | {"range": [-0.5, length - 0.5], "title": {"text": "key"}, "tickangle": -90 if fits else 0}
    return style(note(figure, title, theme) if title else figure, theme, height, xaxis=keys, yaxis=down)


def _shortened(label: str) -> str:
    return label[:11] + "…" if len(label) > 12 else label or " "


def _points(values: np.ndarray, labels: Sequence[str] | None, name: str) -> go.Scattergl:
    queries, keys = _strongest(values)
    data = np.column_stack([queries, keys, values[queries, keys]]).astype(np.float32)
    hover = f"query %{{customdata[0]}}, key %{{customdata[1]}}<br>{name}<extra></extra>"
    points: dict[str, Any] = {"customdata": data, "hovertemplate": hover}
    if labels is not None:
        named = np.array(labels, dtype=object)
        points |= {"text": named[queries] + " → " + named[keys], "hovertemplate": "%{text}<br>" + hover}
    return click_layer(keys.astype(np.float32), queries.astype(np.float32), **points)


def _strongest(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Query and key of every visible pair; in a long text of the largest-in-size one of each block."""
    block = -(-len(values) // MAX_POINT_ROWS)
    if block == 1:
        return np.tril_indices(len(values))
    sizes = np.where(np.tri(len(values), dtype=bool), np.abs(np.nan_to_num(values)), np.nan)
    tiles = np.nan_to_num(_tiles(sizes, block), nan=-1).swapaxes(1, 2)  # hidden pairs lose against any visible one
    rows, columns = np.tril_indices(len(tiles))
    best = tiles.reshape(len(tiles), len(tiles), -1).argmax(-1)[rows, columns]
    return rows * block + best // block, columns * block + best % block


def _cross(token: int, length: int, theme: Theme) -> go.Scatter:
    """Frames round a token's row and column, far enough apart in a long text that the cells stay visible."""
    half = max(0.5, length / 200)
    low, high, end = token - half, token + half, length - 0.5
    row_x, row_y = [-0.5, high, high, -0.5, -0.5], [low, low, high, high, low]
    column_x, column_y = [low, high, high, low, low], [low, low, end, end, low]
    line = {"color": theme.ink, "width": 1}
    return go.Scatter(
        x=[*row_x, None, *column_x], y=[*row_y, None, *column_y], mode="lines", line=line, hoverinfo="skip"
    )


def head_thumbnails(
    weights: xr.DataArray,
    theme: Theme,
    order: Sequence[int] | None = None,
    selected: int | None = None,
    values: Sequence[float] | None = None,
) -> go.Figure:
    """All heads of a layer, small, in one picture; a click reports `customdata` (head).

    Each is scaled to its own largest weight, so it shows where a head looks and not how strongly. Up to eight heads
    stand in two columns, for a narrow place beside a map; more of them fill rows of eight or sixteen.

    Args:
        weights: [head, query, key].
        theme: colours.
        order: head numbers in the order to draw; default as they stand.
        selected: head to frame.
        values: a figure of each head, in the order drawn, said beside its number.
    """
    heads = [int(head) for head in (order if order is not None else head_numbers(weights))]
    chosen = weights.assign_coords(head=head_numbers(weights)).sel(head=heads)
    small, _ = pooled(chosen.transpose("head", "query", "key").values, THUMBNAIL_CELLS)
    side, columns = small.shape[-1], thumbnail_columns(len(heads))
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
    said = [f"head {head}" for head in heads]
    if values is not None:
        said = [f"{name}  {value:.3g}" for name, value in zip(said, values, strict=True)]
    names = np.array(said if columns <= 8 else [f"{head}" for head in heads])
    middle = left + side / 2
    figure.add_scatter(x=middle, y=top, text=names, mode="text", textposition="top center", hoverinfo="skip")
    pixels = {2: 125, 8: 125, 16: 68}[columns]
    points = {"customdata": np.array(heads)[:, None], "text": np.array(said), "hovertemplate": "%{text}<extra></extra>"}
    figure.add_trace(click_layer(middle, top + side / 2, **points).update(marker_size=0.7 * pixels))
    hidden = {"visible": False, "range": [-1, columns * step - _gap(side)]}
    down = {"visible": False, "range": [rows * step - _gap(side) + 1, -0.35 * step], "scaleanchor": "x"}
    return style(figure, theme, 40 + rows * pixels, xaxis=hidden, yaxis=down)


def thumbnail_columns(num_heads: int) -> int:
    """In how many columns the thumbnails of so many heads stand."""
    return 2 if num_heads <= 8 else 8 if num_heads <= 32 else 16


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


def _frames(left: np.ndarray, top: np.ndarray, side: int, color: str, width: int) -> go.Scatter:
    """Squares as one broken line; a hundred shapes would take seconds to add."""
    gap = np.full(len(left), np.nan)
    x = np.stack([left, left + side, left + side, left, left, gap], axis=1).ravel()
    y = np.stack([top, top, top + side, top + side, top, gap], axis=1).ravel()
    return go.Scatter(x=x, y=y, mode="lines", line={"color": color, "width": width}, hoverinfo="skip")
