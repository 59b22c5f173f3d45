"""Figures of the load of devices in expert parallelism, before and after a balancer moves experts between devices.

Takes labelled, simulated ratios (axes `moe_layer, device`) and returns Plotly figures.
"""

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from viz.axis import click_layer, grid_points, layer_axis, layer_labels, positions_apart, rows_height, spread
from viz.load import clipped_log, ratio_map
from viz.theme import Theme, style

HALVES = ("as numbered", "balanced")


def device_load(before: xr.DataArray, after: xr.DataArray, theme: Theme) -> go.Figure:
    """Draw two maps of layers x devices side by side, before and after: each device's load over the mean of its layer.

    Args:
        before: load ratios [moe_layer, device] with experts placed in the order of their numbers; NaN where no token
            was counted.
        after: load ratios [moe_layer, device] with the balancer's placement.
        theme: colours.
    """
    halves = [half.transpose("moe_layer", "device").values for half in (before, after)]
    ratio, layers, number = np.concatenate(halves, axis=1), layer_labels(before), halves[0].shape[1]
    positions = positions_apart(2 * number, 2)
    x, y = grid_points(positions, np.arange(len(layers)))
    devices, half = np.tile(np.arange(number), 2), np.repeat(np.array(HALVES), number)
    cells = np.column_stack([np.repeat(layers, 2 * number), np.tile(devices, len(layers)), ratio.ravel()])
    cell = "L%{customdata[0]} device %{customdata[1]}, %{text}"
    hover = f"{cell}<br>%{{customdata[2]:.3~g}} × mean (simulated)<extra></extra>"
    points = click_layer(x, y, customdata=cells, text=np.tile(half, len(layers)), hovertemplate=hover)
    figure = go.Figure([ratio_map(spread(clipped_log(ratio), positions), theme, "× mean"), points])
    ticks = np.arange(0, 2 * number, -(-number // 8))
    xaxis = {
        "tickvals": positions[ticks],
        "ticktext": devices[ticks].astype(str),
        "range": [-0.6, float(positions[-1]) + 0.6],
        "showgrid": False,
        "title": {"text": "device"},
    }
    style(figure, theme, rows_height(len(layers)), xaxis=xaxis, yaxis=layer_axis(layers))
    for name, first in zip(HALVES, positions[[0, number]].tolist(), strict=True):
        figure.add_annotation(
            text=name, x=first - 0.5, y=1, yref="paper", xanchor="left", yanchor="bottom", showarrow=False,
            font={"color": theme.muted, "size": 12},
        )  # fmt: skip
    return figure
