"""The overview of an audit: layers by checks, with the most severe finding of each.

Takes labelled marks and returns a Plotly figure. A mark has a letter as well as a colour.
"""

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from viz.axis import click_layer, grid_points, layer_axis, rows_height
from viz.theme import Theme, style

# For each mark, from -1 (not checked) to 3 (an error): its hover text, and its letter in the cell.
WORDS = ("not checked", "nothing found", "a note", "a warning", "an error")
MOST_UPRIGHT = 6  # number of checks whose names fit side by side
_LETTERS = ("", "·", "n", "w", "e")


def colors(theme: Theme) -> tuple[str, ...]:
    """Return the colours of the five marks: the background, the shade, and a blue and two oranges of the load scale."""
    return (theme.background, theme.shade, theme.load[2], theme.load[4], theme.load[5])


def overview(marks: xr.DataArray, theme: Theme) -> go.Figure:
    """Draw layers x checks, with the letter of the most severe finding.

    Args:
        marks: [layer, check] integers: -1 not checked, 0 nothing found, 1 a note, 2 a warning, 3 an error.
        theme: colours.
    """
    values, layers = marks.transpose("layer", "check").values, marks["layer"].values
    checks = marks["check"].values.astype(str)
    indices = values + 1
    stops = [[bound, color] for index, color in enumerate(colors(theme)) for bound in (index / 5, (index + 1) / 5)]
    letters = np.array(_LETTERS)[indices]
    cells = go.Heatmap(
        z=indices, zmin=-0.5, zmax=4.5, colorscale=stops, showscale=False, xgap=3, ygap=2, hoverinfo="skip",
        text=letters, texttemplate="%{text}", textfont={"color": theme.ink},
    )  # fmt: skip
    x, y = grid_points(np.arange(len(checks), dtype=np.float32), np.arange(len(layers)))
    words = [f"L{layer}, {check}: {WORDS[index]}" for layer, row in zip(layers, indices, strict=True)
             for check, index in zip(checks, row, strict=True)]  # fmt: skip
    points = click_layer(
        x, y, customdata=np.repeat(layers, len(checks))[:, None], text=np.array(words),
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    figure = go.Figure([cells, points])
    aslant = len(checks) > MOST_UPRIGHT
    names = checks if aslant else [check.replace(" ", "<br>") for check in checks]
    columns = {"tickvals": np.arange(len(checks)), "ticktext": np.array(names), "showgrid": False}
    columns["tickangle"] = -30 if aslant else 0
    height = rows_height(len(layers)) + (50 if aslant else 0)
    return style(figure, theme, height, xaxis=columns, yaxis=layer_axis(layers))
