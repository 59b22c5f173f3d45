"""Figures of the importance of each expert for a text: the change of log-probability when the expert is knocked out.

Takes labelled arrays (axes `moe_layer, expert`) and returns Plotly figures. `logprob_change` is in nats, and negative
if the text needs the expert. Values beyond the colour scale have its end colour; the hover text has the number.
"""

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from viz.axis import (
    click_layer,
    color_bar,
    expert_axis,
    expert_positions,
    grid_points,
    layer_axis,
    layer_labels,
    note,
    rows_height,
    spread,
)
from viz.layout import Layout
from viz.theme import Theme, colorscale, group_hue, style

SMALLEST_LIMIT = 1e-6  # nats; smallest end of the colour scale
OUTLIERS = 0.95  # share of the changes that the colour scale covers
HOVER = (
    "L%{customdata[0]}E%{customdata[1]}<br>knocked out: %{customdata[2]:+.3~g} nats per token, "
    "KL %{customdata[3]:.3~g} (measured)<br>chosen by %{customdata[4]} tokens<br>%{text}<extra></extra>"
)


def color_limit(change: np.ndarray) -> float:
    """Return the end of the colour scale in nats: the 95 % quantile of the absolute changes other than 0."""
    sizes = np.abs(change[np.isfinite(change) & (change != 0)])
    return max(SMALLEST_LIMIT, float(np.quantile(sizes, OUTLIERS))) if sizes.size else SMALLEST_LIMIT


def untouched(effects: xr.Dataset) -> np.ndarray:
    """Return a mask of the knock-outs that changed no routing: their effect is exactly 0, [moe_layer, expert]."""
    return np.isfinite(effects["kl"].values) & (effects["rerouted"].values == 0)


def hover_texts(effects: xr.Dataset) -> np.ndarray:
    """Return a hover text per knock-out, [moe_layer, expert]: how many tokens it rerouted in the expert's layer."""
    rerouted, chosen_by = effects["rerouted"].values, effects["chosen_by"].values
    texts = np.char.add(rerouted.astype(str), " tokens rerouted")
    further = np.char.add(
        np.char.add(texts, "; of these, only because the groups' scores changed: "),
        (rerouted - chosen_by).astype(str),
    )
    texts = np.where(rerouted > chosen_by, further, texts)
    texts = np.where(untouched(effects), "nothing changed: exactly 0", texts)
    return np.where(np.isfinite(effects["kl"].values), texts, "not computed").astype(object)


def importance_map(
    effects: xr.Dataset, layout: Layout, theme: Theme, num_tokens: int, chosen: tuple[int, int] | None = None
) -> go.Figure:
    """Draw layers x experts by mean change of log-probability; a cross is exactly 0, a blank cell was not computed.

    Args:
        effects: `logprob_change`, `kl`, `chosen_by`, `rerouted`, each [moe_layer, expert].
        layout: layout of the router; groups are drawn apart.
        theme: colours.
        num_tokens: number of tokens of the text.
        chosen: layer and expert to frame.
    """
    change, layers = effects["logprob_change"].values, layer_labels(effects["kl"])
    positions, limit = expert_positions(layout), color_limit(change)
    bar = color_bar("nats per token", tickvals=np.array([-limit, 0, limit]), ticktext=_ends(limit))
    gap = 1 if change.shape[1] <= 100 else 0
    heatmap = go.Heatmap(
        z=spread(change, positions), zmin=-limit, zmax=limit, colorscale=colorscale(theme.change), colorbar=bar,
        hoverinfo="skip", xgap=gap, ygap=1,
    )  # fmt: skip
    rows, experts = np.nonzero(untouched(effects))
    marker = {"symbol": "x-thin", "size": 6, "line": {"color": theme.muted, "width": 1}}
    crosses = go.Scatter(
        x=positions[experts], y=rows, mode="markers", marker=marker, hoverinfo="skip", name="exactly 0"
    )
    figure = go.Figure([heatmap, crosses, _points(effects, layers, positions)])
    axes = {"xaxis": expert_axis(layout), "yaxis": layer_axis(layers)}
    style(figure, theme, rows_height(len(layers)), **axes)
    if chosen is not None and chosen[0] in layers and 0 <= chosen[1] < len(positions):
        x, y = float(positions[chosen[1]]), float(np.flatnonzero(layers == chosen[0])[0])
        line = {"color": theme.ink, "width": 2}
        figure.add_shape(type="rect", x0=x - 0.5, x1=x + 0.5, y0=y - 0.5, y1=y + 0.5, line=line)
    return note(figure, f"n = {num_tokens:,} tokens; × exactly 0", theme)


def _ends(limit: float) -> np.ndarray:
    return np.array([f"≤ −{limit:.2g}", "0", f"≥ {limit:.2g}"])


def _points(effects: xr.Dataset, layers: np.ndarray, positions: np.ndarray) -> go.Scattergl:
    x, y = grid_points(positions, np.arange(len(layers)))
    return click_layer(x, y, customdata=_cells(effects, layers), text=hover_texts(effects).ravel(), hovertemplate=HOVER)


def _cells(effects: xr.Dataset, layers: np.ndarray) -> np.ndarray:
    """Return the `customdata` of the points, [layer x expert, 5]: layer, expert, change, KL, tokens of the expert."""
    number = effects.sizes["expert"]
    cells = [np.repeat(layers, number), np.tile(np.arange(number), len(layers))]
    values = [effects[name].values.ravel() for name in ("logprob_change", "kl", "chosen_by")]
    return np.column_stack([*cells, *values]).astype(np.float32)


def effect_against_load(
    effects: xr.Dataset, layout: Layout, theme: Theme, num_tokens: int, layer: int | None = None
) -> go.Figure:
    """Draw a point per expert: its number of tokens (x), and the change when it is knocked out (y).

    A point has the hue of the expert's group.

    Args:
        effects: as for `importance_map`.
        layout: layout of the router.
        theme: colours.
        num_tokens: number of tokens of the text.
        layer: model layer whose points are filled; None: all points are filled.
    """
    layers = layer_labels(effects["kl"])
    cells, number = _cells(effects, layers), effects.sizes["expert"]
    done = np.isfinite(cells[:, 3])
    hues = np.array([group_hue(expert // (number // layout.num_groups)) for expert in range(number)])
    colors = np.tile(hues, len(layers))[done]
    filled = np.ones(int(done.sum()), bool) if layer is None else cells[done, 0] == layer
    symbols = np.where(filled, "circle", "circle-open")
    points = go.Scatter(
        x=cells[done, 4], y=cells[done, 2], mode="markers",
        customdata=cells[done], text=hover_texts(effects).ravel()[done],
        marker={"color": colors, "symbol": symbols, "size": 8}, hovertemplate=HOVER,
    )  # fmt: skip
    figure = go.Figure([points])
    zero = {
        "type": "line",
        "xref": "x domain",
        "x0": 0,
        "x1": 1,
        "y0": 0,
        "y1": 0,
        "line": {"color": theme.muted, "width": 1},
    }
    axes = {
        "xaxis": {"title": {"text": "tokens that chose it"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": "change, nats per token"}},
    }
    style(figure, theme, 340, shapes=[zero], **axes)
    return note(figure, f"n = {num_tokens:,} tokens", theme)
