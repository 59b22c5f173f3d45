"""The text with the draft of every token below it, as HTML, and how alike wrong drafts and their tokens were routed.

Everything that comes from a text or a vocabulary is escaped here. A right draft is marked by a sign and not by its
colour alone.
"""

import html
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from viz import strip
from viz.theme import Theme, style

CSS = (
    strip.CSS
    + """
.drafts { max-height: 27rem; }
.drafts .chip { display: inline-flex; flex-direction: column; vertical-align: top; white-space: pre; overflow: hidden;
  text-overflow: ellipsis; border-bottom: 3px solid transparent; }
.drafts small { font-size: 13px; line-height: 1.25; min-height: 1.25em; }
.drafts .right { border-bottom-color: #0072b2; }
.drafts .wrong small { opacity: 0.85; }
.drafts .wrong { border-bottom-color: #d55e00; }
.drafts .untried { border-bottom-style: dotted; }
.drafts.legend .chip { margin: 0 6px 0 14px; }
"""
)
LEGEND = strip.legend(
    "drafts",
    '<span class="chip right generated"><bdi>token</bdi><small>✓</small></span>right, and tried'
    '<span class="chip wrong generated"><bdi>token</bdi><small>draft</small></span>wrong, and tried'
    '<span class="chip right untried"><bdi>token</bdi><small>✓</small></span>right, not tried'
    '<span class="chip wrong untried"><bdi>token</bdi><small>draft</small></span>wrong, not tried',
)


def text_with_drafts(
    tokens: Sequence[str],
    drafts: Sequence[str | None],
    right: Sequence[bool],
    tried: Sequence[bool],
    generated: Sequence[bool],
    special: Sequence[bool],
    chosen: int | None = None,
    first: int = 0,
) -> str:
    """The text as chips with drafts below them.

    Args:
        tokens: as they are named.
        drafts: likewise; None where there is none.
        right: whether a draft is its token.
        tried: whether it was fed before the token was chosen.
        generated: whether the token was.
        special: whether it is a special one.
        chosen: number of the token to outline.
        first: number of the first of these tokens.
    """
    written = []
    for place, (token, draft) in enumerate(zip(tokens, drafts, strict=True)):
        marks = {"generated": generated[place], "special": special[place], "chosen": first + place == chosen}
        said, below = "no draft", ""
        if draft is not None:
            marks |= {"right": right[place], "wrong": not right[place], "untried": not tried[place]}
            below = "✓" if right[place] else draft
            said = f"draft {draft!r}, {'right' if right[place] else 'wrong'}{'' if tried[place] else ', not tried'}"
        inner = f"<bdi>{html.escape(token)}</bdi><small><bdi>{html.escape(below)}</bdi></small>"
        written.append(strip.chip(inner, f"token {first + place}: {said}", marks))
    return strip.framed("drafts", "The text with the draft of each token below it", written)


def shared_by_layer(layers: Sequence[int], shared: np.ndarray, by_chance: np.ndarray, theme: Theme) -> go.Figure:
    """By layer, the mean share of experts that wrong drafts had in common with the tokens that came.

    Args:
        layers: model layer numbers.
        shared: [layer] from 0 to 1.
        by_chance: [layer] the same of two tokens of the text that have nothing to do with each other.
        theme: colours.
    """
    names = [f"L{layer}" for layer in layers]
    bars = go.Bar(x=names, y=shared, name="wrong draft and token", marker_color="#0072B2", hovertemplate="%{y:.1%}")
    marks = go.Scatter(
        x=names, y=by_chance, name="two tokens of the text", mode="markers", hovertemplate="%{y:.1%}",
        marker={"symbol": "line-ew", "size": 26, "line": {"width": 3, "color": theme.ink}},
    )  # fmt: skip
    yaxis = {"title": {"text": "experts in common"}, "tickformat": ".0%", "range": [0, 1]}
    figure = style(go.Figure([bars, marks]), theme, 280, yaxis=yaxis, hovermode="x unified")
    return figure.update_layout(showlegend=True, legend={"orientation": "h", "y": 1.16, "x": 0})
