"""The cost of attention, or the size of the cache, by context length, for several models.

Takes labelled arrays and returns a Plotly figure.
"""

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from viz.axis import note
from viz.theme import Theme, style

DASHES = ("dot", "solid", "dash")


WORK, CACHE = ("multiply-adds per token, all layers", "B multiply-adds"), ("bytes of cache, all layers", "GB of cache")


def cost_by_context(
    work: xr.DataArray, theme: Theme, context: int | None = None, names: tuple[str, str] = WORK
) -> go.Figure:
    """Draw a cost by the length of the context, both on a log scale.

    Args:
        work: multiply-adds or bytes, [model, context]; at most three models, NaN where there is none. The second line
            has the colour of text.
        theme: colours.
        context: context length to mark.
        names: `WORK` or `CACHE`, title of the cost and its unit for 1e9 of it.
    """
    title, unit = names
    figure = go.Figure()
    contexts = work["context"].values
    for name, dash in zip(work["model"].values.tolist(), DASHES, strict=False):
        values = work.sel(model=name).values
        color = theme.ink if dash == "solid" else theme.muted
        hover = f"{name}<br>%{{x:,}} tokens: %{{text}} {unit} (derived)<extra></extra>"
        text = [f"{value / 1e9:,.3g}" if value < 1e12 else f"{value / 1e9:,.0f}" for value in values.tolist()]
        line = {"color": color, "dash": dash, "width": 2}
        figure.add_trace(
            go.Scatter(x=contexts, y=values, mode="lines+markers", line=line, text=text, hovertemplate=hover)
        )
        last = np.flatnonzero(np.isfinite(values))[-1]
        end = {"x": np.log10(contexts[last]), "y": np.log10(values[last]), "xanchor": "left", "xshift": 8}
        figure.add_annotation(text=name, showarrow=False, font={"size": 12, "color": color}, **end)
    if context is not None:
        figure.add_vline(context, line={"color": theme.grid, "width": 2})
    ticks = [2**power for power in (7, 9, 11, 13, 15, 17, 20)]
    labels = [f"{tick:,}" for tick in ticks]
    xaxis = {"type": "log", "title": {"text": "context, tokens"}, "tickvals": ticks, "ticktext": labels}
    yaxis = {"type": "log", "dtick": 1, "exponentformat": "B"}
    style(figure, theme, 340, xaxis=xaxis, yaxis=yaxis)
    return note(figure, title, theme)
