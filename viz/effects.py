"""What a change of the routing did: the text coloured by it, token by token, and layer by layer.

Change is drawn on the scale that diverges round 0, never in the colours of load. The control, what as many random
experts of equal load do, is a grey band beside each effect. Everything that comes from a text is escaped here.
"""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from viz import strip
from viz.axis import note
from viz.theme import Theme, blend, readable_on, style, translucent

CSS = (
    strip.CSS
    + """
.effects { max-height: 24rem; }
.effects .chip { white-space: pre; padding: 0 3px; }
.effects.text { white-space: pre-wrap; overflow-wrap: anywhere; min-height: 7rem; max-height: 14rem; }
.effects.text .given { opacity: 0.6; }
.effects .scale { display: inline-block; width: 9rem; height: 0.8em; border-radius: 3px; margin: 0 0.5em;
  vertical-align: -1px; border: 1px solid color-mix(in srgb, currentColor 18%, transparent); }
"""
)


def limit_of(values: np.ndarray) -> float:
    """Where the colours end: 95 of 100 values lie within, and never closer than 0.05, so that noise stays pale."""
    known = np.abs(values[np.isfinite(values)])
    return max(0.05, float(np.quantile(known, 0.95))) if known.size else 0.05


def text_with_change(
    tokens: Sequence[str],
    values: np.ndarray,
    said: Sequence[str],
    generated: Sequence[bool],
    special: Sequence[bool],
    theme: Theme,
    chosen: int | None = None,
    first: int = 0,
) -> str:
    """The text as chips on the scale of change, with its legend.

    Args:
        tokens: as they are named.
        values: [token] in nats; grey where NaN.
        said: what each chip says when pointed at.
        generated: whether the token was.
        special: whether it is a special one.
        theme: colours.
        chosen: number of the token to outline.
        first: number of the first of these tokens.
    """
    limit, written = limit_of(values), []
    for place, (token, value) in enumerate(zip(tokens, values.tolist(), strict=True)):
        color = blend(theme.change, 0.5 + value / limit / 2) if np.isfinite(value) else theme.grid
        marks = {"generated": generated[place], "special": special[place], "chosen": first + place == chosen}
        look = f"background:{color};color:{readable_on(color)}"
        written.append(strip.chip(f"<bdi>{html.escape(token)}</bdi>", said[place], marks, look))
    shown = strip.framed("effects", "The text, every token on the scale of change", written)
    low = f"-{limit:.2g}" if (values < 0).any() else "0"
    stops = theme.change if (values < 0).any() else theme.change[len(theme.change) // 2 :]
    scale = f'<span class="scale" style="background:linear-gradient(90deg,{",".join(stops)})"></span>'
    return shown + strip.legend("effects", f"{low}{scale}{limit:.2g} nats")


def plain_text(given: str, common: str, own: str, theme: Theme) -> str:
    """A text: what was given grey, then what both wrote, then on colour what this one wrote alone."""
    color = theme.change[-2]
    parts = [f'<span class="given">{html.escape(given)}</span>', html.escape(common)]
    if own:
        parts.append(
            f'<span style="background:{color};color:{readable_on(color)}"><bdi>{html.escape(own)}</bdi></span>'
        )
    return f'<div class="strip effects text" dir="auto" tabindex="0">{"".join(parts)}</div>'


def by_token(
    values: np.ndarray,
    control: tuple[np.ndarray, np.ndarray] | None,
    names: Sequence[str],
    unit: str,
    theme: Theme,
    chosen: int | None = None,
) -> go.Figure:
    """An effect token by token, with the lowest and highest of the control's draws as a band.

    Args:
        values: [token].
        control: two arrays [token]; None where there is no control.
        names: of the tokens.
        unit: of the values.
        theme: colours.
        chosen: number of the token to mark.
    """
    places, figure = np.arange(len(values)), go.Figure()
    if control is not None:
        edges = {"mode": "lines", "line": {"width": 0, "shape": "hvh"}, "hoverinfo": "skip"}
        figure.add_scatter(x=places, y=control[0], showlegend=False, **edges)
        fill = {"fill": "tonexty", "fillcolor": translucent(theme.muted, 0.3), "name": "control, lowest to highest"}
        figure.add_scatter(x=places, y=control[1], **edges, **fill)
    colors = np.where(np.nan_to_num(values) < 0, theme.change[0], theme.change[-1])
    figure.add_bar(
        x=places, y=values, name="this change", marker_color=colors, customdata=places[:, None],
        hovertext=[html.escape(name) for name in names],
        hovertemplate=f"#%{{x}} %{{hovertext}}<br>%{{y:.3g}} {unit} (derived)<extra></extra>",
    )  # fmt: skip
    if chosen is not None:
        figure.add_vline(chosen, line={"color": theme.ink, "width": 1, "dash": "dot"})
    layout: dict[str, Any] = {"yaxis": {"title": {"text": unit}}, "xaxis": {"title": {"text": "token"}}}
    style(figure, theme, 280, **layout, showlegend=control is not None, bargap=0.15)
    return figure.update_layout(legend={"orientation": "h", "y": 1.16, "x": 0})


def by_layer(
    layers: Sequence[int],
    values: np.ndarray,
    control: tuple[np.ndarray, np.ndarray] | None,
    title: str,
    theme: Theme,
    touched: Sequence[int] = (),
) -> go.Figure:
    """Agreement of the routing with the original by layer, 1 where nothing changed, and the control's range.

    Args:
        layers: model layer numbers.
        values: [layer], shares of 1.
        control: lowest and highest of the draws, [layer] each; None where there is no control.
        title: of the axis.
        theme: colours.
        touched: layers that the change itself touched.
    """
    names, figure = [f"L{layer}" for layer in layers], go.Figure()
    if control is not None:
        figure.add_bar(
            x=names, base=control[0], y=np.maximum(control[1] - control[0], 0.004), width=0.5,
            marker_color=translucent(theme.muted, 0.35), name="control, lowest to highest", hoverinfo="skip",
        )  # fmt: skip
    figure.add_scatter(
        x=names, y=values, mode="markers", name="this change", hovertemplate="%{x}: %{y:.1%} (derived)<extra></extra>",
        marker={"size": 12, "color": theme.change[-1], "symbol": "diamond",
                "line": {"width": [2 if layer in touched else 0 for layer in layers], "color": theme.ink}},
    )  # fmt: skip
    yaxis = {"title": {"text": title}, "tickformat": ".0%", "range": [-0.02, 1.04]}
    style(figure, theme, 300, yaxis=yaxis, showlegend=control is not None)
    figure.update_layout(legend={"orientation": "h", "y": -0.12, "x": 0, "yanchor": "top"})  # above are the tools
    return figure if touched else note(figure, "no layer was changed", theme)


def against_control(value: float, draws: np.ndarray, unit: str, theme: Theme) -> go.Figure:
    """One number of the change beside those of the control's draws, on one line."""
    figure = go.Figure()
    figure.add_vrect(
        float(draws.min()), float(draws.max()), fillcolor=translucent(theme.muted, 0.25), line_width=0, layer="below"
    )
    hover = f"%{{x:.3g}} {unit} (derived)<extra></extra>"
    figure.add_scatter(
        x=draws, y=np.zeros(len(draws)), mode="markers", name="control draws", hovertemplate=hover,
        marker={"size": 10, "color": theme.muted, "symbol": "circle-open", "line": {"width": 2}},
    )  # fmt: skip
    figure.add_scatter(
        x=[value], y=[0], mode="markers", name="this change", hovertemplate=hover,
        marker={"size": 14, "color": theme.change[-1], "symbol": "diamond"},
    )  # fmt: skip
    yaxis = {"visible": False, "range": [-1, 1]}
    style(figure, theme, 150, yaxis=yaxis, xaxis={"title": {"text": unit}, "rangemode": "tozero"}, showlegend=True)
    return figure.update_layout(legend={"orientation": "h", "y": 1.5, "x": 0})
