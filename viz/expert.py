"""Figures of one expert: its gate weights, and its share of each kind of token."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from viz.axis import note
from viz.theme import Theme, style


def shares_by_kind(
    names: Sequence[str],
    taken: np.ndarray,
    totals: np.ndarray,
    bounds: np.ndarray,
    beyond: np.ndarray,
    fair: float,
    color: str,
    theme: Theme,
) -> go.Figure:
    """Draw an expert's share of the tokens of each kind, with an interval; the dashed line is the uniform share.

    A kind is grey if chance explains the expert's share of it.

    Args:
        names: names of the kinds, from top to bottom.
        taken: number of tokens routed to the expert, [kind].
        totals: number of all tokens, [kind], at least 1 each.
        bounds: lower and upper bound of the share, [kind, 2].
        beyond: whether chance does not explain the share, [kind] bool.
        fair: uniform share, top-k divided by the number of experts.
        color: the expert's colour.
        theme: colours.
    """
    shares, colors = taken / totals, np.where(beyond, color, theme.muted)
    labels = [f"{name} (n = {total:,})" for name, total in zip(names, totals.tolist(), strict=True)]
    error = {"type": "data", "symmetric": False, "array": bounds[:, 1] - shares, "arrayminus": shares - bounds[:, 0]}
    error |= {"color": theme.muted, "thickness": 1.5, "width": 4}
    cells = np.column_stack([taken, totals, bounds])
    hover = "%{y}<br>%{customdata[0]} of %{customdata[1]} tokens, %{x:.3~p}"
    hover += "<br>95 % interval %{customdata[2]:.3~p} to %{customdata[3]:.3~p} (derived)<extra></extra>"
    figure = go.Figure(
        go.Scatter(
            x=shares, y=labels, mode="markers", marker={"size": 10, "color": colors}, error_x=error,
            customdata=cells, hovertemplate=hover,
        )
    )  # fmt: skip
    figure.add_vline(fair, line={"color": theme.ink, "width": 1, "dash": "dash"})
    xaxis = {"title": {"text": "share of these tokens routed to it"}, "tickformat": ".0%", "range": [-0.02, 1.02]}
    return style(figure, theme, 90 + 34 * max(4, len(names)), xaxis=xaxis, yaxis={"autorange": "reversed"})


def weight_distribution(
    weights: xr.DataArray, color: str, theme: Theme, num_bins: int = 24, height: int = 260
) -> go.Figure:
    """Draw the distribution of an expert's gate weights over the tokens that selected it.

    Args:
        weights: gate weights, any shape; NaN (unknown) is left out.
        color: the expert's colour.
        theme: colours.
        num_bins: number of bars between 0 and the largest weight.
        height: height in pixels.
    """
    known = weights.values[~np.isnan(weights.values)].ravel()
    counts, edges = np.histogram(known, bins=num_bins, range=(0, max(float(known.max(initial=0)), 1e-6)))
    middle, width = (edges[:-1] + edges[1:]) / 2, edges[1] - edges[0]
    hover = "weight %{customdata[0]:.3~g} to %{customdata[1]:.3~g}<br>%{y} tokens<extra></extra>"
    bounds = np.column_stack([edges[:-1], edges[1:]]).astype(np.float32)
    bars = go.Bar(x=middle, y=counts, width=width * 0.92, marker_color=color, customdata=bounds, hovertemplate=hover)
    figure = style(go.Figure(bars), theme, height, xaxis={"title": {"text": "gate weight"}, "showgrid": False})
    figure.update_yaxes(title_text="tokens", rangemode="tozero")
    summary = f"n = {len(known):,} tokens, median {np.median(known):.3g}" if len(known) else "no token was routed here"
    return note(figure, summary, theme)
