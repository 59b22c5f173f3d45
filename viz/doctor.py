"""The picture of an audit: layers by checks, with the gravest finding of each.

Labelled marks in, a Plotly figure out. A mark is told by its shape and its letter as well as by its colour.
"""

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from viz.axis import click_layer, grid_points, layer_axis, rows_height
from viz.theme import Theme, style

# Marks from -1 (not looked at) to 3 (an error): what it says on hovering, and the letter in its cell.
WORDS = ("not looked at", "nothing found", "a note", "a warning", "an error")
MOST_UPRIGHT = 6  # checks; the names of more do not fit beside each other
_LETTERS = ("", "·", "n", "w", "e")


def colors(theme: Theme) -> tuple[str, ...]:
    """The colours of the five marks: page, quiet, blue, light orange, dark orange: those of load, where one looks."""
    return (theme.background, theme.shade, theme.load[2], theme.load[4], theme.load[5])


def overview(marks: xr.DataArray, theme: Theme) -> go.Figure:
    """Layers x checks; a letter for what was found.

    Args:
        marks: [layer, check] whole numbers from -1 (not looked at), 0 (nothing found) to 3 (an error).
        theme: colours.
    """
    values, layers = marks.transpose("layer", "check").values, marks["layer"].values
    checks = marks["check"].values.astype(str)
    places = values + 1
    stops = [[bound, color] for place, color in enumerate(colors(theme)) for bound in (place / 5, (place + 1) / 5)]
    letters = np.array(_LETTERS)[places]
    cells = go.Heatmap(
        z=places, zmin=-0.5, zmax=4.5, colorscale=stops, showscale=False, xgap=3, ygap=2, hoverinfo="skip",
        text=letters, texttemplate="%{text}", textfont={"color": theme.ink},
    )  # fmt: skip
    x, y = grid_points(np.arange(len(checks), dtype=np.float32), np.arange(len(layers)))
    words = [f"L{layer}, {check}: {WORDS[place]}" for layer, row in zip(layers, places, strict=True)
             for check, place in zip(checks, row, strict=True)]  # fmt: skip
    points = click_layer(
        x, y, customdata=np.repeat(layers, len(checks))[:, None], text=np.array(words),
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    figure = go.Figure([cells, points])
    aslant = len(checks) > MOST_UPRIGHT
    columns = {"tickvals": np.arange(len(checks)), "ticktext": checks, "showgrid": False}
    columns["tickangle"] = -30 if aslant else 0
    height = rows_height(len(layers)) + (50 if aslant else 0)
    return style(figure, theme, height, xaxis=columns, yaxis=layer_axis(layers))
