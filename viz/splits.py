"""Figures of two traces side by side: where routing splits, how far layers agree, how log-probabilities change.

Colours are those of the change scale: purple is a real change, light purple a consequence of an earlier split, green a
near tie (rounding could change the choice). This module escapes the text that it puts into HTML.
"""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from viz import strip as strips
from viz.axis import MAX_CLICKABLE, click_layer, grid_points, layer_axis, layer_labels, note, rows_height
from viz.theme import Theme, blend, style, translucent
from viz.tokens import MarkedToken, chips, short_name

# From least to most severe. Tokens that share a character share a chip, which shows the most severe kind.
SAME, UNKNOWN, UNALIGNED, FOLLOWS, NEAR_TIE, UNDECIDED, CHANGE = KINDS = (
    "same", "not recorded", "not aligned", "follows", "near tie", "undecided", "change",
)  # fmt: skip
WORDS = {
    SAME: "the same experts everywhere",
    NEAR_TIE: "first split is a near tie",
    CHANGE: "first split is a real change",
    FOLLOWS: "split follows from an earlier one",
    UNDECIDED: "split without recorded scores: the cause is unknown",
    UNKNOWN: "experts not recorded",
    UNALIGNED: "the other side has no matching token",
}


def css(theme: Theme) -> str:
    """Return the CSS of the strip, with the colours of a theme."""
    near, follows, changed = theme.change[0], translucent(theme.change[-1], 0.22), translucent(theme.change[-1], 0.42)
    rules = (
        ".splits { max-height: 15rem; } .splits .special { background: none; }"
        ".splits.legend .chip { margin-right: 0.5em; }"
        f".splits .near-tie {{ outline: 2px dotted {near}; outline-offset: -2px; }}"
        f".splits .follows {{ background: {follows}; }}"
        f".splits .change {{ background: {changed}; outline: 2px solid {theme.change[-1]}; outline-offset: -2px; }}"
        f".splits .undecided {{ outline: 2px dashed {theme.muted}; outline-offset: -2px; }}"
        ".splits .not-aligned, .splits .not-recorded { opacity: 0.75; text-decoration: line-through; }"
        ".splits .not-recorded { text-decoration: none; }"
    )
    return strips.CSS + rules


def strip(
    tokens: Sequence[MarkedToken], text: bytes, kinds: Sequence[str], hover: Sequence[str], chosen: int | None = None
) -> str:
    """Return the text as HTML, a chip per token styled by its kind of split.

    Args:
        tokens: the tokens, with byte spans that cover `text` without gap or overlap.
        text: prompt and generated text; need not be valid UTF-8.
        kinds: kind of split of each token, from `KINDS`.
        hover: hover text of each token.
        chosen: token to outline.
    """
    parts = []
    for first, last, _ in chips(tokens, text):
        members = range(first, last + 1)
        kind = max((kinds[index] for index in members), key=KINDS.index)
        spelled = text[tokens[first].start : tokens[last].end]
        inner = strips.writing(spelled) or f"<bdi>{html.escape(short_name(tokens[first]))}</bdi>"
        marks = {"generated": tokens[first].generated, "special": tokens[first].special, "chosen": chosen in members}
        title = "; ".join(hover[index] for index in members)
        parts.append(strips.chip(inner, title, marks | {kind.replace(" ", "-"): True}))
        parts.append("<br>" if spelled.endswith(b"\n") else "")
    return strips.framed("splits", "The text as tokens, marked where routing splits", parts)


def legend(kinds: Sequence[str]) -> str:
    """Return the legend of the kinds of split in `kinds`, as HTML."""
    shown = [
        f'<span class="chip {kind.replace(" ", "-")}">{WORDS[kind]}</span>' for kind in KINDS if kind in set(kinds)
    ]
    return strips.legend("splits", "".join(shown))


def colors(theme: Theme) -> dict[str, str]:
    """Return the colour of each kind of split in figures."""
    return {
        SAME: theme.shade,
        NEAR_TIE: theme.change[0],
        FOLLOWS: blend((theme.background, theme.change[-1]), 0.35),
        CHANGE: theme.change[-1],
        UNDECIDED: theme.muted,
        UNKNOWN: theme.background,
    }


def split_map(
    verdict: xr.DataArray, names: Sequence[str], labels: Sequence[str], theme: Theme, chosen: tuple[int, int] | None
) -> go.Figure:
    """Draw layers x tokens, each cell coloured by its kind of split.

    Args:
        verdict: kind of split as an index into `names`, [pair, moe_layer]; the coordinate `token` has the token index
            of each pair.
        names: kinds of split, from `KINDS`.
        labels: description of the token of each pair.
        theme: colours.
        chosen: token and layer to mark.
    """
    values, layers, tokens = verdict.values.T, layer_labels(verdict), verdict["token"].values
    palette = [colors(theme)[name] for name in names]
    stops = [[edge / len(names), color] for index, color in enumerate(palette) for edge in (index, index + 1)]
    bar = {
        "tickvals": np.arange(len(names)),
        "ticktext": np.array(names),
        "thickness": 10,
        "outlinewidth": 0,
        "title": "",
    }
    heatmap = go.Heatmap(
        z=values, x=np.arange(len(tokens)), colorscale=stops, zmin=-0.5, zmax=len(names) - 0.5, colorbar=bar,
        hoverinfo="skip", xgap=1 if len(tokens) <= 200 else 0, ygap=1,
    )  # fmt: skip
    figure = go.Figure(heatmap)
    if values.size <= MAX_CLICKABLE:
        x, y = grid_points(np.arange(len(tokens)), np.arange(len(layers)))
        cells = np.column_stack([np.tile(tokens, len(layers)), np.repeat(layers, len(tokens))])
        texts = [f"{labels[int(pair)]}: {names[kind]}" for pair, kind in zip(x, values.ravel(), strict=True)]
        hover = "token %{customdata[0]}, L%{customdata[1]}<br>%{text} (derived)<extra></extra>"
        figure.add_trace(click_layer(x, y, customdata=cells, text=texts, hovertemplate=hover))
    shapes = _frame(chosen, tokens, layers, theme)
    step = -(-len(tokens) // 16)
    ticks = np.arange(0, len(tokens), step)
    xaxis = {"tickvals": ticks, "ticktext": tokens[ticks], "title": {"text": "token"}, "showgrid": False}
    xaxis |= {"range": [-0.6, len(tokens) - 0.4]}
    return style(figure, theme, rows_height(len(layers)), xaxis=xaxis, yaxis=layer_axis(layers), shapes=shapes)


def _frame(
    chosen: tuple[int, int] | None, tokens: np.ndarray, layers: np.ndarray, theme: Theme
) -> list[dict[str, Any]]:
    """Return a frame around the chosen cell, if the map has it."""
    if chosen is None or chosen[0] not in tokens or chosen[1] not in layers:
        return []
    x, y = int(np.flatnonzero(tokens == chosen[0])[0]), int(np.flatnonzero(layers == chosen[1])[0])
    line = {"color": theme.ink, "width": 2}
    return [{"type": "rect", "x0": x - 0.5, "x1": x + 0.5, "y0": y - 0.5, "y1": y + 0.5, "line": line}]


def agreement(layers: xr.Dataset, chance: tuple[float, float] | None, num_choices: int, theme: Theme) -> go.Figure:
    """Draw by layer the share of tokens with equal sets of experts, and the mean Jaccard index of the two sets.

    Args:
        layers: variables `equal` and `jaccard`, [moe_layer].
        chance: mean Jaccard index that two independent random routers reach, drawn as a line, and their share of equal
            sets, which is not drawn; None if unknown.
        num_choices: number of compared sets of experts.
        theme: colours.
    """
    numbers = layer_labels(layers["equal"])
    line_styles = {
        "equal": ("share of equal sets", theme.sequential[-2], "square", "solid"),
        "jaccard": ("mean Jaccard index", theme.sequential[-3], "circle", "dot"),
    }
    figure = go.Figure()
    for name, (label, color, symbol, dash) in line_styles.items():
        hover = f"L%{{x}}<br>{label} %{{y:.3f}} (derived)<extra></extra>"
        figure.add_trace(
            go.Scatter(
                x=numbers, y=layers[name].values, mode="lines+markers", name=label, hovertemplate=hover,
                marker={"size": 8, "symbol": symbol, "color": color}, line={"color": color, "width": 2, "dash": dash},
            )
        )  # fmt: skip
    shapes = []
    if chance is not None:
        line = {"color": theme.ink, "width": 1, "dash": "dash"}
        shapes = [
            {"type": "line", "xref": "x domain", "x0": 0, "x1": 1, "y0": chance[0], "y1": chance[0], "line": line}
        ]
    xaxis = {"title": {"text": "layer"}, "tickprefix": "L", "tickformat": "d", "showgrid": False}
    xaxis |= {"dtick": max(1, len(numbers) // 20)}
    yaxis = {"range": [-0.03, 1.05], "title": {"text": "agreement"}}
    style(figure, theme, 344, xaxis=xaxis, yaxis=yaxis, shapes=shapes)
    legend = {"orientation": "h", "y": -0.24, "yanchor": "top", "x": 1, "xanchor": "right"}
    figure.update_layout(showlegend=True, legend=legend)
    by_chance = "" if chance is None else f"; dashed: mean Jaccard index by chance, {chance[0]:.3g}"
    return note(figure, f"n = {num_choices:,} choices{by_chance}", theme)


def logprob_bars(difference: xr.DataArray, labels: Sequence[str], theme: Theme, chosen: int | None) -> go.Figure:
    """Draw the change of each token's log-probability as bars: second run minus first, in nats.

    Args:
        difference: change in nats, [pair], NaN if unknown; the coordinate `token` has the token index of each pair.
        labels: description of the token of each pair.
        theme: colours.
        chosen: index of the token to outline.
    """
    values, tokens = difference.values, difference["token"].values
    limit = float(np.nanmax(np.abs(values), initial=0)) or 1.0
    shades = [blend(theme.change, 0.5 + 0.5 * value / limit) for value in np.nan_to_num(values).tolist()]
    outline = {"color": theme.ink, "width": np.where(tokens == chosen, 2, 0)}
    hover = "token %{customdata[0]} %{text}<br>%{y:+.3~g} nats (derived)<extra></extra>"
    bars = go.Bar(
        x=np.arange(len(tokens)), y=values, marker={"color": shades, "line": outline}, customdata=tokens[:, None],
        text=list(labels), textposition="none", hovertemplate=hover,
    )  # fmt: skip
    step = -(-len(tokens) // 16)
    ticks = np.arange(0, len(tokens), step)
    xaxis = {"tickvals": ticks, "ticktext": tokens[ticks], "title": {"text": "token"}, "showgrid": False}
    yaxis = {"title": {"text": "change of log-probability (nats)"}, "range": [-1.1 * limit, 1.1 * limit]}
    figure = style(go.Figure(bars), theme, 300, xaxis=xaxis, yaxis=yaxis)
    known = values[np.isfinite(values)]
    mean = f", mean {known.mean():+.2g} nats" if known.size else ""
    return note(figure, f"n = {known.size:,} tokens{mean}", theme)
