"""Bytes that curation kept and dropped, rule by rule. Takes a table and returns a Plotly figure."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from viz.theme import Theme, style

ROW = 22  # pixels
UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B"))


def size(num_bytes: float) -> str:
    """Return a number of bytes as text, in the largest unit with a value of at least 1, with at most three digits."""
    scale, unit = next((pair for pair in UNITS if num_bytes >= pair[0]), UNITS[-1])
    value = num_bytes / scale
    return f"{value:.0f} {unit}" if value >= 100 or unit == "B" else f"{value:.3g} {unit}"


def kept_and_dropped(rows: pd.DataFrame, theme: Theme) -> go.Figure:
    """Draw a bar per rule, the first on top: the bytes that remain after the rule, and the bytes that it dropped.

    Args:
        rows: a row per rule, in the order they ran: columns `rule`, `kept` and `dropped` (bytes), `records` (number of
            dropped records).
        theme: colours. Kept bytes are grey; dropped bytes are purple, the colour of a change.
    """
    figure = make_subplots(1, 2, shared_yaxes=True, column_widths=[0.32, 0.68], horizontal_spacing=0.02)
    figure.add_trace(_kept(rows, theme), row=1, col=1)
    figure.add_trace(_dropped(rows, theme), row=1, col=2)
    style(figure, theme, 70 + ROW * len(rows), bargap=0.25)
    figure.update_xaxes(showgrid=False, showticklabels=False, row=1, col=1)
    decades = range(2, len(str(max([10, *rows["dropped"].tolist()]))) + 1)
    ticks = {"tickvals": [10**decade for decade in decades], "ticktext": [size(10**decade) for decade in decades]}
    end = decades[-1] + 0.3 * len(decades)  # space for a label after the longest bar
    figure.update_xaxes(type="log", range=[1.5, end], autorange=False, **ticks, row=1, col=2)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    for axis, title in (("x", "kept"), ("x2", "dropped, logarithmic scale")):
        figure.add_annotation(
            text=title, x=0, y=1, xref=f"{axis} domain", yref="paper", xanchor="left", yanchor="bottom",
            showarrow=False, font={"color": theme.muted, "size": 12},
        )  # fmt: skip
    return figure


def _kept(rows: pd.DataFrame, theme: Theme) -> go.Bar:
    return go.Bar(
        x=rows["kept"], y=rows["rule"], orientation="h", marker={"color": theme.load[3]},
        text=[size(value) for value in rows["kept"]], textposition="inside", insidetextanchor="start",
        textangle=0, constraintext="none", textfont={"color": theme.ink, "size": 12}, cliponaxis=False,
        hovertemplate="%{y}<br>%{text} kept (measured)<extra></extra>",
    )  # fmt: skip


def _dropped(rows: pd.DataFrame, theme: Theme) -> go.Bar:
    texts = [
        f"{size(dropped)}, {records:,} text{'s' if records != 1 else ''}"
        for dropped, records in zip(rows["dropped"], rows["records"], strict=True)
    ]
    return go.Bar(
        x=rows["dropped"].where(rows["records"] > 0), y=rows["rule"], orientation="h",
        marker={"color": theme.change[-1]}, text=texts, textposition="outside", cliponaxis=False,
        textfont={"size": 12}, hovertemplate="%{y}<br>%{text} dropped (measured)<extra></extra>",
    )  # fmt: skip
