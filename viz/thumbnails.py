"""Thumbnails of all attention heads of a layer, in one figure.

Takes small maps (axes `head, query, key`) and returns a Plotly figure. All thumbnails form one array of pixels: adding
a hundred images, or a hundred shapes around them, would take seconds.
"""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from viz.axis import click_layer
from viz.theme import Theme, colorscale, style

THUMBNAIL_CELLS = 48  # per side


def head_thumbnails(
    weights: xr.DataArray,
    theme: Theme,
    order: Sequence[int] | None = None,
    selected: int | None = None,
    values: Sequence[float] | None = None,
) -> go.Figure:
    """Draw thumbnails of all heads of a layer; a click reports `customdata` (head).

    Each head is scaled to its own largest weight, so a thumbnail shows where a head attends and not how strongly. Up to
    eight heads take two columns, to fit beside a map; more heads fill rows of eight or sixteen.

    Args:
        weights: attention weights, [head, query, key], at most `THUMBNAIL_CELLS` cells per side.
        theme: colours.
        order: head numbers in the order to draw; default: in the order of `weights`.
        selected: head to frame.
        values: a statistic of each head, in drawing order, shown beside the head's number.
    """
    heads = [int(head) for head in (order if order is not None else head_numbers(weights))]
    chosen = weights.assign_coords(head=head_numbers(weights)).sel(head=heads)
    small = chosen.transpose("head", "query", "key").values
    side, columns = small.shape[-1], thumbnail_columns(len(heads))
    rows, step = -(-len(heads) // columns), side + _gap(side)
    left, top = np.arange(len(heads)) % columns * step - 0.5, np.arange(len(heads)) // columns * step - 0.5
    scale = colorscale(theme.sequential)
    mosaic = go.Heatmap(
        z=_mosaic(small, columns), zmin=0, zmax=255, colorscale=scale, showscale=False, hoverinfo="skip"
    )
    figure = go.Figure([mosaic, _frames(left, top, side, theme.grid, 1)])
    if selected in heads:
        index = slice(heads.index(selected), heads.index(selected) + 1)
        figure.add_trace(_frames(left[index], top[index], side, theme.ink, 2))
    labels = [f"head {head}" for head in heads]
    if values is not None:
        labels = [f"{name}  {value:.3g}" for name, value in zip(labels, values, strict=True)]
    names = np.array(labels if columns <= 8 else [f"{head}" for head in heads])
    middle = left + side / 2
    figure.add_scatter(x=middle, y=top, text=names, mode="text", textposition="top center", hoverinfo="skip")
    pixels = {2: 125, 8: 125, 16: 68}[columns]
    points = {
        "customdata": np.array(heads)[:, None],
        "text": np.array(labels),
        "hovertemplate": "%{text}<extra></extra>",
    }
    figure.add_trace(click_layer(middle, top + side / 2, **points).update(marker_size=0.7 * pixels))
    hidden = {"visible": False, "range": [-1, columns * step - _gap(side)]}
    down = {"visible": False, "range": [rows * step - _gap(side) + 1, -0.35 * step], "scaleanchor": "x"}
    return style(figure, theme, 40 + rows * pixels, xaxis=hidden, yaxis=down)


def thumbnail_columns(num_heads: int) -> int:
    """Return the number of columns for the thumbnails of `num_heads` heads."""
    return 2 if num_heads <= 8 else 8 if num_heads <= 32 else 16


def head_numbers(weights: xr.DataArray) -> np.ndarray:
    """Return the head numbers, the labels of the `head` axis; without labels, 0 to n - 1."""
    return weights.coords["head"].values if "head" in weights.coords else np.arange(weights.sizes["head"])


def _gap(side: int) -> int:
    return max(1, round(0.35 * side))


def _mosaic(small: np.ndarray, columns: int) -> np.ndarray:
    """Return all heads as one image, uint8: 255 times the square root of (weight / largest weight of its head).

    Args:
        small: attention weights, [head, query, key].
        columns: number of heads per row of the image.
    """
    largest = np.nanmax(small, axis=(-2, -1), keepdims=True, initial=1e-9)
    pixels = np.round(255 * np.sqrt(np.nan_to_num(small) / largest)).astype(np.uint8)
    side, gap = small.shape[-1], _gap(small.shape[-1])
    rows = -(-len(small) // columns)
    mosaic = np.zeros((rows * (side + gap), columns * (side + gap)), dtype=np.uint8)
    for index, head in enumerate(pixels):
        row, column = index // columns * (side + gap), index % columns * (side + gap)
        mosaic[row : row + side, column : column + side] = head
    return mosaic


def _frames(left: np.ndarray, top: np.ndarray, side: int, color: str, width: int) -> go.Scatter:
    """Return squares as one line with gaps; adding a hundred shapes would take seconds."""
    gap = np.full(len(left), np.nan)
    x = np.stack([left, left + side, left + side, left, left, gap], axis=1).ravel()
    y = np.stack([top, top, top + side, top + side, top, gap], axis=1).ravel()
    return go.Scatter(x=x, y=y, mode="lines", line={"color": color, "width": width}, hoverinfo="skip")
