"""Draw the effects of an intervention: on the text, by token, and by layer.

Effects use the change scale, which diverges around 0, never the colours of load. The control makes the same change to
random experts, in several draws; it is a grey band beside each effect. This module escapes everything that comes from a
text.
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
.effects.text .prompt { opacity: 0.75; }
.effects .scale { display: inline-block; width: 9rem; height: 0.8em; border-radius: 3px; margin: 0 0.5em;
  vertical-align: -1px; border: 1px solid color-mix(in srgb, currentColor 18%, transparent); }
"""
)


def limit_of(values: np.ndarray) -> float:
    """Return the end of the colour scale: the 95 % quantile of the absolute `values`, at least 0.05."""
    known = np.abs(values[np.isfinite(values)])
    return max(0.05, float(np.quantile(known, 0.95))) if known.size else 0.05


def text_with_change(
    tokens: Sequence[str],
    values: np.ndarray,
    hover: Sequence[str],
    generated: Sequence[bool],
    special: Sequence[bool],
    theme: Theme,
    chosen: int | None = None,
    first: int = 0,
) -> str:
    """Return the text as HTML, a chip per token coloured by its effect on the change scale, with a legend.

    Args:
        tokens: name of each token.
        values: effect on each token, [token], in nats; NaN is drawn grey.
        hover: hover text of each token.
        generated: for each token, whether it was generated.
        special: for each token, whether it is a special token.
        theme: colours.
        chosen: index of the token to outline, counted in the whole text.
        first: index of the first of `tokens`, counted in the whole text.
    """
    limit, chips = limit_of(values), []
    for index, (token, value) in enumerate(zip(tokens, values.tolist(), strict=True)):
        color = blend(theme.change, 0.5 + value / limit / 2) if np.isfinite(value) else theme.grid
        marks = {"generated": generated[index], "special": special[index], "chosen": first + index == chosen}
        css = f"background:{color};color:{readable_on(color)}"
        chips.append(strip.chip(f"<bdi>{html.escape(token)}</bdi>", hover[index], marks, css))
    text = strip.framed("effects", "The text, every token on the change scale", chips)
    low = f"-{limit:.2g}" if (values < 0).any() else "0"
    stops = theme.change if (values < 0).any() else theme.change[len(theme.change) // 2 :]
    scale = f'<span class="scale" style="background:linear-gradient(90deg,{",".join(stops)})"></span>'
    return text + strip.legend("effects", f"{low}{scale}{limit:.2g} nats")


def plain_text(prompt: str, common: str, own: str, theme: Theme) -> str:
    """Return a run's text as HTML: the prompt in grey, the text common to both runs, the run's `own` text in colour."""
    color = theme.change[-2]
    parts = [f'<span class="prompt">{html.escape(prompt)}</span>', html.escape(common)]
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
    """Draw an effect by token, with a band from the lowest to the highest of the control's draws.

    Args:
        values: effect on each token, [token].
        control: lowest and highest effect among the control's draws, [token] each; None without a control.
        names: name of each token.
        unit: unit of the values.
        theme: colours.
        chosen: index of the token to mark.
    """
    numbers, figure = np.arange(len(values)), go.Figure()
    if control is not None:
        edges = {"mode": "lines", "line": {"width": 0, "shape": "hvh"}, "hoverinfo": "skip"}
        figure.add_scatter(x=numbers, y=control[0], showlegend=False, **edges)
        fill = {"fill": "tonexty", "fillcolor": translucent(theme.muted, 0.3), "name": "control, lowest to highest"}
        figure.add_scatter(x=numbers, y=control[1], **edges, **fill)
    colors = np.where(np.nan_to_num(values) < 0, theme.change[0], theme.change[-1])
    figure.add_bar(
        x=numbers, y=values, name="this change", marker_color=colors, customdata=numbers[:, None],
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
    """Draw each layer's agreement of routing with the original run (1: nothing changed), and the control's range.

    Args:
        layers: model layer numbers.
        values: agreement of each layer, [layer], from 0 to 1.
        control: lowest and highest agreement among the control's draws, [layer] each; None without a control.
        title: title of the value axis.
        theme: colours.
        touched: model layers with an intervention.
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
    # The legend is not above the chart, where Plotly's tools would cover it.
    figure.update_layout(legend={"orientation": "h", "y": -0.12, "x": 0, "yanchor": "top"})
    return figure if touched else note(figure, "no layer has an intervention", theme)


def against_control(value: float, draws: np.ndarray, unit: str, theme: Theme) -> go.Figure:
    """Draw the effect of the intervention and the effect of each draw of the control on one number line."""
    figure = go.Figure()
    figure.add_vrect(
        float(draws.min()), float(draws.max()), fillcolor=translucent(theme.muted, 0.25), line_width=0, layer="below"
    )
    hover = f"%{{x:.3g}} {unit} (derived)<extra></extra>"
    figure.add_scatter(
        x=draws, y=np.zeros(len(draws)), mode="markers", name="control runs", hovertemplate=hover,
        marker={"size": 10, "color": theme.muted, "symbol": "circle-open", "line": {"width": 2}},
    )  # fmt: skip
    figure.add_scatter(
        x=[value], y=[0], mode="markers", name="this change", hovertemplate=hover,
        marker={"size": 14, "color": theme.change[-1], "symbol": "diamond"},
    )  # fmt: skip
    yaxis = {"visible": False, "range": [-1, 1]}
    style(figure, theme, 150, yaxis=yaxis, xaxis={"title": {"text": unit}, "rangemode": "tozero"}, showlegend=True)
    return figure.update_layout(legend={"orientation": "h", "y": 1.5, "x": 0})
