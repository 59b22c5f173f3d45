"""The cost of attention by context length, for several models. Takes labelled arrays and returns a Plotly figure."""

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from viz.axis import note
from viz.theme import Theme, style

DASHES = ("dot", "solid", "dash")


def cost_by_context(work: xr.DataArray, theme: Theme, context: int | None = None) -> go.Figure:
    """Draw multiply-adds per token by the length of the context, both on a log scale.

    Args:
        work: multiply-adds per token, [model, context]; at most three models. The second line has the colour of text.
        theme: colours.
        context: context length to mark.
    """
    figure = go.Figure()
    contexts = work["context"].values
    for name, dash in zip(work["model"].values.tolist(), DASHES, strict=False):
        values = work.sel(model=name).values
        color = theme.ink if dash == "solid" else theme.muted
        hover = f"{name}<br>%{{x:,}} tokens: %{{text}} B multiply-adds (derived)<extra></extra>"
        text = [f"{value / 1e9:,.3g}" if value < 1e12 else f"{value / 1e9:,.0f}" for value in values.tolist()]
        line = {"color": color, "dash": dash, "width": 2}
        figure.add_trace(
            go.Scatter(x=contexts, y=values, mode="lines+markers", line=line, text=text, hovertemplate=hover)
        )
        end = {"x": np.log10(contexts[-1]), "y": np.log10(values[-1]), "xanchor": "left", "xshift": 8}
        figure.add_annotation(text=name, showarrow=False, font={"size": 12, "color": color}, **end)
    if context is not None:
        figure.add_vline(context, line={"color": theme.grid, "width": 2})
    labels = ["128", "512", "2,048", "8,192", "32,768", "131,072"]
    ticks = [2**power for power in (7, 9, 11, 13, 15, 17)]
    xaxis = {"type": "log", "title": {"text": "context, tokens"}, "tickvals": ticks, "ticktext": labels}
    yaxis = {"type": "log", "dtick": 1, "exponentformat": "B"}
    style(figure, theme, 340, xaxis=xaxis, yaxis=yaxis)
    return note(figure, "multiply-adds per token, all layers", theme)
