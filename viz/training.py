"""Figures of a training run by step: losses, load and bias of every expert, balance, and saturation.

Takes labelled arrays with a `step` axis and returns Plotly figures. A stage is a thin vertical line with its name above
the chart; alarms and rollbacks are marks at the bottom.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from viz.axis import color_bar
from viz.load import LOG_LIMIT, TICKS, clipped_log
from viz.theme import GROUP_HUES, Theme, colorscale, style

HEIGHT = 380
STAGE_ROW = 17  # pixels for the name of a stage
LATE = 0.6  # share of the steps; the name of a stage that begins later is left of its line, to stay inside the chart
_ACROSS = {"title": {"text": "step"}, "showgrid": False, "tickformat": ","}
# The legend is below the axis, where it does not collide with Plotly's tools.
_LEGEND = {"orientation": "h", "x": 0, "yref": "container", "y": 0, "yanchor": "bottom"}


def curves(
    series: Mapping[str, xr.DataArray],
    title: str,
    theme: Theme,
    stages: Sequence[tuple[int, str]] = (),
    alarms: Sequence[tuple[int, str]] = (),
    roll_backs: Sequence[tuple[int, str]] = (),
    height: int = HEIGHT,
) -> go.Figure:
    """Draw lines over steps, the first line thickest; the value axis starts at 0.

    Args:
        series: values [step] by name. NaN is a gap; a line begins at its first value that is not NaN.
        title: title of the value axis, with its unit.
        theme: colours.
        stages: first step and name of each stage.
        alarms: step and message of each alarm.
        roll_backs: first step after each rollback to a saved state, and the message of the rollback.
        height: height in pixels.
    """
    figure = go.Figure()
    series = {name: values[_begin(values) :] for name, values in series.items()}
    steps = [values["step"].values for values in series.values() if values.size]
    first_step, last_step = min((of[0] for of in steps), default=0), max((of[-1] for of in steps), default=0)
    for index, (name, values) in enumerate(series.items()):
        line = {"color": GROUP_HUES[index % len(GROUP_HUES)], "width": 2.5 if index == 0 else 1.5}
        figure.add_scatter(
            x=values["step"].values, y=values.values, name=name, mode="lines", line=line,
            hovertemplate=f"step %{{x:,}}<br>{name} %{{y:.3~g}}<extra></extra>",
        )  # fmt: skip
    stages = _current(stages, first_step)
    _mark_stages(figure, stages, first_step, last_step, theme)
    _mark_events(figure, "alarm", "triangle-up", alarms, theme)
    _mark_events(figure, "rollback", "arrow-left", roll_backs, theme)
    axes = {"xaxis": _ACROSS, "yaxis": {"title": {"text": title}, "rangemode": "nonnegative"}}
    names = STAGE_ROW * len(stages)
    axes["margin"] = {"l": 8, "r": 8, "t": 24 + names, "b": 8}
    return style(figure, theme, height + names, legend=_LEGEND, showlegend=len(series) > 1, **axes)


def _begin(values: xr.DataArray) -> int:
    """Return the index of the first value that is not NaN; 0 if all are NaN."""
    return int(np.argmax(values.notnull().values)) if values.size else 0


def _current(stages: Sequence[tuple[int, str]], first_step: int) -> list[tuple[int, str]]:
    """Return the stages that had not ended at `first_step`, the first step of the chart."""
    ends = [*(step for step, _ in stages[1:]), None]
    return [stage for stage, end in zip(stages, ends, strict=False) if end is None or end > first_step]


def _mark_stages(
    figure: go.Figure, stages: Sequence[tuple[int, str]], first_step: int, last_step: int, theme: Theme
) -> None:
    """Draw a vertical line for each stage, and its name in a row of its own above the chart.

    The name of a late stage is left of its line. Rows are ordered so that no name crosses the line of another stage.
    """
    late = [step - first_step > LATE * (last_step - first_step) for step, _ in stages]
    early = late.count(False)
    for index, (step, name) in enumerate(stages):
        row = len(stages) - index if not late[index] else index - early + 1  # counted upwards from the chart
        figure.add_vline(step, line={"color": theme.muted, "width": 1})
        figure.add_annotation(
            text=name, x=step, y=1, yref="y domain", ax=0, ay=8 - STAGE_ROW * row, borderpad=1,
            xanchor="right" if late[index] else "left", font={"size": 12, "color": theme.muted},
            arrowhead=0, arrowwidth=1, arrowcolor=theme.muted,
        )  # fmt: skip


def _mark_events(figure: go.Figure, name: str, symbol: str, events: Sequence[tuple[int, str]], theme: Theme) -> None:
    if events:
        steps, messages = zip(*events, strict=True)
        figure.add_scatter(
            x=steps, y=[0.02] * len(steps), yaxis="y2", mode="markers", name=name, text=messages,
            marker={"symbol": symbol, "size": 11, "color": theme.surprisal[-2]},
            hovertemplate="step %{x:,}<br>%{text}<extra></extra>",
        )  # fmt: skip
        figure.update_layout(yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True})


def load_over_steps(load: xr.DataArray, theme: Theme, height: int = HEIGHT) -> go.Figure:
    """Draw the load of every expert of a layer over the steps, as a ratio to uniform.

    Args:
        load: load ratios, [step, expert]; NaN before the layer was added to the model.
        theme: colours.
        height: height in pixels.
    """
    bar = color_bar("load, × uniform", tickvals=np.log2(TICKS), ticktext=["≤ ¼", "½", "1", "2", "≥ 4"])
    figure = go.Figure(
        go.Heatmap(
            z=clipped_log(load.values).T, x=load["step"].values, zmin=-LOG_LIMIT, zmax=LOG_LIMIT, colorbar=bar,
            colorscale=colorscale(theme.load), customdata=load.values.T,
            hovertemplate="step %{x:,}<br>E%{y}  %{customdata:.3~g} × uniform<extra></extra>",
        )
    )  # fmt: skip
    return style(figure, theme, height, xaxis=_ACROSS, yaxis={"title": {"text": "expert"}, "showgrid": False})


def load_that_plays(load: xr.DataArray, theme: Theme, height: int = HEIGHT) -> go.Figure:
    """Draw a map of the load of all layers and experts at one step; a button plays the steps, a slider selects one.

    Args:
        load: load ratios, [step, moe_layer, expert].
        theme: colours.
        height: height in pixels.
    """
    steps, names = load["step"].values.tolist(), [f"L{layer}" for layer in load["moe_layer"].values.tolist()]
    logs = clipped_log(load.transpose("step", "moe_layer", "expert").values)
    bar = color_bar("load, × uniform", tickvals=np.log2(TICKS), ticktext=["≤ ¼", "½", "1", "2", "≥ 4"])
    look = {"zmin": -LOG_LIMIT, "zmax": LOG_LIMIT, "colorscale": colorscale(theme.load), "colorbar": bar, "y": names}
    hover = "%{y}E%{x}  2^%{z:.2f} × uniform<extra></extra>"
    figure = go.Figure(
        data=[go.Heatmap(z=logs[-1], hovertemplate=hover, xgap=1, ygap=1, **look)],
        frames=[go.Frame(data=[go.Heatmap(z=log)], name=str(step)) for log, step in zip(logs, steps, strict=True)],
    )
    now = {"frame": {"duration": 60, "redraw": True}, "mode": "immediate", "transition": {"duration": 0}}
    still = now | {"frame": {"duration": 0, "redraw": True}}
    buttons = [
        {"label": "Play", "method": "animate", "args": [None, now | {"fromcurrent": False}]},
        {"label": "Pause", "method": "animate", "args": [[None], still]},
    ]
    slider = {
        "active": len(steps) - 1, "currentvalue": {"prefix": "step "}, "x": 0.16, "len": 0.84, "y": -0.12,
        "steps": [{"label": f"{step:,}", "method": "animate", "args": [[str(step)], still]} for step in steps],
        "ticklen": 0, "minorticklen": 0, "font": {"color": theme.muted, "size": 12},
    }  # fmt: skip
    corner = {"x": 0, "y": -0.24, "xanchor": "left", "yanchor": "top"}
    look = {"bgcolor": theme.shade, "font": {"color": theme.ink, "size": 12}, "showactive": False}
    menu = {"type": "buttons", "direction": "left", "buttons": buttons} | corner | look
    across = {"title": {"text": "expert"}, "showgrid": False}
    style(figure, theme, height, xaxis=across, yaxis={"showgrid": False})
    return figure.update_layout(updatemenus=[menu], sliders=[slider], margin={"l": 8, "r": 8, "t": 24, "b": 110})


def bias_over_steps(bias: xr.DataArray, theme: Theme, height: int = HEIGHT) -> go.Figure:
    """Draw the selection bias of every expert of a layer over the steps, minus the layer's mean bias.

    Args:
        bias: selection bias, [step, expert].
        theme: colours.
        height: height in pixels.
    """
    values = (bias - bias.mean("expert")).values
    limit = max(float(np.abs(values).max(initial=0)), 1e-6)
    figure = go.Figure(
        go.Heatmap(
            z=values.T, x=bias["step"].values, zmin=-limit, zmax=limit, colorscale=colorscale(theme.change),
            colorbar=color_bar("bias − mean"), hovertemplate="step %{x:,}<br>E%{y}  %{z:+.3~g}<extra></extra>",
        )
    )  # fmt: skip
    return style(figure, theme, height, xaxis=_ACROSS, yaxis={"title": {"text": "expert"}, "showgrid": False})
