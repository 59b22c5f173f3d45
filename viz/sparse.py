"""Figures of sparse attention: the keys that the indexer keeps, dense attention on them, and recall.

Takes labelled arrays (axes `query`, `key`) and returns Plotly figures.
"""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from viz.axis import click_layer, color_bar, grid_points, note
from viz.theme import Theme, colorscale, style, translucent

MAP_HEIGHT = 460
QUERY_HEIGHT = 460
# In pixels: on half a page, Plotly's tools take the full width, so the title line is below them.
_MARGIN = {"l": 8, "r": 8, "t": 48, "b": 8}
MAX_CLICKABLE = 160  # tokens per side; a larger map is not clickable


def selection_map(
    attention: xr.DataArray, kept: xr.DataArray, theme: Theme, query: int | None = None, title: str = ""
) -> go.Figure:
    """Draw dense attention, in one colour on the kept keys and in another on those left out.

    A click reports `customdata` (query).

    Args:
        attention: dense attention weights, [query, key], of one head or the mean of all.
        kept: whether the indexer kept the key for the query, [query, key] bool.
        theme: colours.
        query: query whose row is framed.
        title: one line above the map.
    """
    values, mask = attention.values.astype(np.float32), kept.values
    visible = np.tri(len(values), dtype=bool)
    figure = go.Figure()
    for name, stops, cells in (("kept", theme.sequential, mask), ("left out", theme.surprisal, visible & ~mask)):
        shown = np.where(cells, values, np.nan)
        figure.add_heatmap(
            z=shown, zmin=0, zmax=max(float(np.nanmax(values, initial=0)), 1e-6), colorscale=_visible(stops),
            showscale=name == "kept", colorbar=color_bar("attention"), hovertemplate=_HOVER.format(name=name),
            hoverongaps=False,
        )  # fmt: skip
    if len(values) <= MAX_CLICKABLE:
        figure.update_traces(hoverinfo="skip", hovertemplate=None).add_trace(_clicks(values, mask))
    if query is not None:
        frame = {"type": "rect", "x0": -0.5, "x1": query + 0.5, "y0": query - 0.5, "y1": query + 0.5}
        figure.add_shape(**frame, line={"color": theme.ink, "width": 1.5})
    figure = note(figure, title, theme) if title else figure
    axes = {"showgrid": False, "zeroline": False}
    return style(
        figure, theme, MAP_HEIGHT, margin=_MARGIN, xaxis=axes | {"title": {"text": "key"}},
        yaxis=axes | {"title": {"text": "query"}, "autorange": "reversed"},
    )  # fmt: skip


def _clicks(values: np.ndarray, mask: np.ndarray) -> go.Scattergl:
    """Return a point per pair that the causal mask allows; Plotly reports clicks only on points with hover text."""
    query, key = np.nonzero(np.tri(len(values), dtype=bool))
    states = np.where(mask[query, key], "kept", "left out")
    hover = "query %{customdata[0]}, key %{x}<br>attention %{customdata[1]:.3~g} (derived), %{text}<extra></extra>"
    cells = np.column_stack([query, values[query, key]])
    return click_layer(
        key.astype(np.float32), query.astype(np.float32), customdata=cells, text=states, hovertemplate=hover
    )


_HOVER = "query %{{y}}, key %{{x}}<br>attention %{{z:.3~g}} (derived), {name}<extra></extra>"


def _visible(stops: Sequence[str]) -> list[list[float | str]]:
    """Return a colour scale that starts above the background, so that a cell with weight 0 stays visible."""
    return colorscale((stops[1], *stops[1:]), companded=True)


def query_panels(
    scores: xr.DataArray, kept: xr.DataArray, attention: xr.DataArray, labels: Sequence[str], theme: Theme
) -> go.Figure:
    """Draw two panels of one query: the indexer's score of every key, and dense attention; kept keys are coloured.

    Args:
        scores: scores of the indexer, [key], of the keys that the query can see.
        kept: whether the indexer kept the key, [key] bool.
        attention: dense attention weights, [key].
        labels: label of each key.
        theme: colours.
    """
    keys, mask = np.arange(len(scores)), kept.values
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    panels = ((scores, "index score", "measured"), (attention, "attention without selection", "derived"))
    for row, (values, name, origin) in enumerate(panels, start=1):
        for cells, state, color in (
            (mask, "kept", theme.sequential[-3]),
            (~mask, "left out", translucent(theme.surprisal[3], 0.9)),
        ):
            texts = np.array([f"{key}  {labels[key]}" for key in keys[cells].tolist()], dtype=object)
            figure.add_bar(
                x=keys[cells], y=values.values[cells], marker_color=color, name=state, showlegend=row == 1, text=texts,
                textposition="none", row=row, col=1,
                hovertemplate=f"%{{text}}<br>{name} %{{y:.3~g}} ({origin}), {state}<extra></extra>",
            )  # fmt: skip
        figure.update_yaxes(title_text=name, row=row, col=1)
    figure.update_xaxes(title_text="key", row=2, col=1)
    legend = {"orientation": "h", "x": 0, "yref": "container", "y": 0, "yanchor": "bottom"}
    return style(figure, theme, QUERY_HEIGHT, margin=_MARGIN, legend=legend, bargap=0.1, showlegend=True)


def recall_by_query(recalled: xr.DataArray, oracle: xr.DataArray, theme: Theme, title: str = "") -> go.Figure:
    """Draw the share of each query's dense attention on the kept keys, and on the best selection of as many keys.

    Args:
        recalled: share on the kept keys, [query]; NaN where all keys were kept.
        oracle: share on the best selection, the keys with the largest weights, [query]; NaN where all keys were kept.
        theme: colours.
        title: one line above the chart.
    """
    figure = go.Figure()
    for values, name, color, dash in (
        (oracle, "best selection", theme.muted, "dot"),
        (recalled, "indexer", theme.sequential[-3], "solid"),
    ):
        hover = f"query %{{x}}<br>{name} %{{y:.3~g}} (derived)<extra></extra>"
        line = {"color": color, "dash": dash}
        figure.add_scatter(x=np.arange(len(values)), y=values.values, name=name, line=line, hovertemplate=hover)
    figure = note(figure, title, theme) if title else figure
    legend = {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"}
    upwards = {"range": [0, 1.02], "title": {"text": "share of attention"}}
    return style(figure, theme, 300, legend=legend, showlegend=True, yaxis=upwards, xaxis={"title": {"text": "query"}})


def cost_by_context(
    contexts: Sequence[int], dense: Sequence[float], sparse: Sequence[float], indexer: Sequence[float], theme: Theme
) -> go.Figure:
    """Draw the time of one token in one layer by the length of its context, both axes logarithmic.

    Args:
        contexts: context lengths in tokens, ascending.
        dense: microseconds of core attention over all keys.
        sparse: microseconds of core attention over the selected keys.
        indexer: microseconds of the indexer, which selects the keys.
        theme: colours.
    """
    figure = go.Figure()
    for values, name, color, dash in (
        (dense, "attention, every key", theme.muted, "solid"),
        (sparse, "attention, selected keys", theme.sequential[-3], "solid"),
        (indexer, "indexer", theme.surprisal[-2], "dot"),
    ):
        figure.add_scatter(
            x=list(contexts), y=list(values), name=name, mode="lines+markers", line={"color": color, "dash": dash},
            hovertemplate=f"context %{{x:,}}<br>{name} %{{y:.3~s}} µs (measured)<extra></extra>",
        )  # fmt: skip
    across = {"type": "log", "tickvals": list(contexts), "ticktext": [f"{context:,}" for context in contexts]}
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    return style(
        figure, theme, 320, legend=legend, showlegend=True, xaxis=across | {"title": {"text": "context in tokens"}},
        yaxis={"type": "log", "dtick": 1, "title": {"text": "µs for one token, one layer"}},
    )  # fmt: skip


def recall_map(recalled: xr.DataArray, theme: Theme, chosen: tuple[int, int]) -> go.Figure:
    """Draw the mean recall of every layer and head; a click reports `customdata` (layer, head).

    Args:
        recalled: mean recall, [layer, head], labelled with model layer numbers.
        theme: colours.
        chosen: layer and head to frame.
    """
    layers, heads = recalled["layer"].values, recalled["head"].values
    figure = go.Figure(
        go.Heatmap(
            z=recalled.values, x=heads, y=np.arange(len(layers)), zmin=0, zmax=1, colorbar=color_bar("recall"),
            colorscale=colorscale(theme.sequential), texttemplate="%{z:.2f}", hoverinfo="skip",
        )
    )  # fmt: skip
    x, y = grid_points(heads, np.arange(len(layers)))
    pairs = np.stack([np.repeat(layers, len(heads)), np.tile(heads, len(layers))], 1)
    hover = "layer %{customdata[0]}, head %{customdata[1]}<extra></extra>"
    figure.add_trace(click_layer(x, y, customdata=pairs, hovertemplate=hover))
    row = layers.tolist().index(chosen[0])
    frame = {"type": "rect", "x0": chosen[1] - 0.5, "x1": chosen[1] + 0.5, "y0": row - 0.5, "y1": row + 0.5}
    figure.add_shape(**frame, line={"color": theme.ink, "width": 2})
    ticks = {"tickvals": np.arange(len(layers)), "ticktext": [f"L{layer}" for layer in layers], "showgrid": False}
    across = {"title": {"text": "head"}, "showgrid": False, "dtick": 1}
    return style(figure, theme, 110 + 34 * len(layers), yaxis=ticks | {"title": {"text": "layer"}}, xaxis=across)
