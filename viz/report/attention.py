"""The report's map of one head's attention: rows are queries, columns keys, the first token at the top left."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from viz.report.figure import Plot, figure, number_ticks, rect, words
from viz.report.images import map_image, shades
from viz.theme import DARK, LIGHT

LABELLED = 50  # tokens of a map; with more, the axes have numbers instead of texts
MOST_CHARACTERS = 12
_SIDE = 600  # pixels of the map


def attention_map(
    weights: xr.DataArray, layer: int, head: str, labels: Sequence[str] | None = None, token: int | None = None
) -> str:
    """Draw the attention map of one head; colours follow the square root of a weight, as on the Attention page.

    Args:
        weights: attention weight of each cell, [query, key]; NaN where the causal mask hides all its pairs. The
            coordinates `query_end` and `key_end` are those of `model.trace.cells`.
        layer: model layer number.
        head: number of the head, or other words.
        labels: visible text of all tokens, drawn along both axes if all fit; None: the axes have numbers.
        token: token whose row is framed.
    """
    values = weights.transpose("query", "key").values.astype(np.float64)
    number, ends = len(values), weights.coords["query_end"].values
    num_tokens, most = int(ends[-1]), max(float(np.nanmax(values, initial=0)), 1e-6)
    shown = labels if labels and num_tokens <= LABELLED else None
    left = 130.0 if shown else 60.0
    plot = Plot(left, 8, _SIDE, _SIDE, num_tokens, num_tokens)
    image = map_image(shades(np.sqrt(values / most)), (LIGHT.sequential, DARK.sequential), *_frame(plot, weights))
    parts = [rect(x=left, y=8, width=_SIDE, height=_SIDE, class_="grid"), image, _scale(plot, most)]
    parts += [_rows(plot, shown), _columns(plot, shown, num_tokens)]
    if token is not None:
        parts.append(plot.box((num_tokens - 1) / 2, token, num_tokens, 1, class_="line dotted"))
    low = 110 if shown else 40
    description = f"Rows: tokens that look. Columns: tokens that they look at. The darkest cell is {most:.3g}."
    data = {"layer": layer, "cells": number, "largest": most}
    return figure(
        "attention", f"Attention of head {head} of layer {layer}", description, 8 + _SIDE + low, parts, **data
    )


def _frame(plot: Plot, weights: xr.DataArray) -> tuple[float, float, float, float]:
    """Return position and size of the image; the cells at the end may reach beyond the last token."""
    side = int(weights.coords["query_end"].values[0])
    reach = [size * side * cell for size, cell in zip(weights.shape, reversed(plot.cell), strict=True)]
    return plot.left, plot.top, reach[1], reach[0]


def _rows(plot: Plot, labels: Sequence[str] | None) -> str:
    if labels is None:
        ticks = number_ticks(0, int(plot.rows), (plot.y(0), plot.y(plot.rows - 1)))
        return "".join(words(plot.left - 6, at + 4, label, "end", "quiet") for at, label in ticks)
    return "".join(
        words(plot.left - 6, plot.y(row) + 4, _cut(label), "end", "label") for row, label in enumerate(labels)
    )


def _columns(plot: Plot, labels: Sequence[str] | None, num_tokens: int) -> str:
    below = plot.top + plot.height
    if labels is None:
        ticks = number_ticks(0, num_tokens, (plot.x(0), plot.x(num_tokens - 1)))
        marks = "".join(words(at, below + 15, label, "middle", "quiet") for at, label in ticks)
        return marks + words(plot.left + plot.width / 2, below + 31, "token looked at", "middle", "quiet")
    turned = []
    for column, label in enumerate(labels):
        x, y = plot.x(column) + 4, below + 8
        turned.append(words(x, y, _cut(label), "end", "label", transform=f"rotate(-90 {x:.5g} {y:.5g})"))
    return "".join(turned)


def _cut(label: str) -> str:
    return label if len(label) <= MOST_CHARACTERS else f"{label[: MOST_CHARACTERS - 1]}…"


def _scale(plot: Plot, most: float) -> str:
    """Return the colour scale at the right of the map, with its largest value."""
    x, steps = plot.left + plot.width + 12, np.linspace(1, 0, 64)[:, None]
    image = map_image(shades(steps), (LIGHT.sequential, DARK.sequential), x, plot.top + 16, 10, 120)
    return image + words(x, plot.top + 9, f"{most:.2g}", class_="quiet") + words(x, plot.top + 152, "0", class_="quiet")
