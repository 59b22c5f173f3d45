"""Figures of draft tokens: the text with a draft below every token, as HTML, and the experts of rejected drafts.

This module escapes everything that comes from a text or a vocabulary. A draft equal to its token has a sign as well as
a colour.
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
.drafts small { font-size: calc(13px * var(--text-scale, 1)); line-height: 1.25; min-height: 1.25em; }
.drafts .matching { border-bottom-color: #0072b2; }
.drafts .differing small { opacity: 0.85; }
.drafts .differing { border-bottom-color: #d55e00; }
.drafts .unverified { border-bottom-style: dotted; }
.drafts.legend .chip { margin: 0 6px 0 14px; }
"""
)
LEGEND = strip.legend(
    "drafts",
    '<span class="chip matching generated"><bdi>token</bdi><small>✓</small></span>accepted'
    '<span class="chip differing generated"><bdi>token</bdi><small>draft</small></span>rejected'
    '<span class="chip matching unverified"><bdi>token</bdi><small>✓</small></span>matches, not verified'
    '<span class="chip differing unverified"><bdi>token</bdi><small>draft</small></span>differs, not verified',
)
# (the draft was verified, it equals its token) -> verdict
_VERDICTS = {
    (True, True): "accepted",
    (True, False): "rejected",
    (False, True): "matches, not verified",
    (False, False): "differs, not verified",
}


def text_with_drafts(
    tokens: Sequence[str],
    drafts: Sequence[str | None],
    matches: Sequence[bool],
    verified: Sequence[bool],
    generated: Sequence[bool],
    special: Sequence[bool],
    chosen: int | None = None,
    first: int = 0,
) -> str:
    """Return the text as chips with drafts below them.

    Args:
        tokens: name of each token.
        drafts: for each token, the name of the draft made for its position; None for a token without a draft.
        matches: for each token, whether its draft equals it.
        verified: for each token, whether the model verified its draft, which was then accepted or rejected.
        generated: for each token, whether it was generated.
        special: for each token, whether it is a special token.
        chosen: index of the token to outline, counted in the whole text.
        first: index of the first of `tokens`, counted in the whole text.
    """
    chips = []
    for index, (token, draft) in enumerate(zip(tokens, drafts, strict=True)):
        marks = {"generated": generated[index], "special": special[index], "chosen": first + index == chosen}
        verdict, below = "no draft", ""
        if draft is not None:
            marks |= {"matching": matches[index], "differing": not matches[index], "unverified": not verified[index]}
            below = "✓" if matches[index] else draft
            verdict = f"draft {draft!r}, {_VERDICTS[bool(verified[index]), bool(matches[index])]}"
        inner = f"<bdi>{html.escape(token)}</bdi><small><bdi>{html.escape(below)}</bdi></small>"
        chips.append(strip.chip(inner, f"token {first + index}: {verdict}", marks))
    return strip.framed("drafts", "The text with the draft of each token below it", chips)


def shared_by_layer(layers: Sequence[int], shared: np.ndarray, by_chance: np.ndarray, theme: Theme) -> go.Figure:
    """Draw, by layer, the mean share of experts that a rejected draft has in common with the token sampled instead.

    Args:
        layers: model layer numbers.
        shared: mean share of common experts, [layer], from 0 to 1.
        by_chance: mean share for two unrelated tokens of the text, [layer].
        theme: colours.
    """
    names = [f"L{layer}" for layer in layers]
    bars = go.Bar(x=names, y=shared, name="rejected draft and token", marker_color="#0072B2", hovertemplate="%{y:.1%}")
    marks = go.Scatter(
        x=names, y=by_chance, name="two tokens of the text", mode="markers", hovertemplate="%{y:.1%}",
        marker={"symbol": "line-ew", "size": 26, "line": {"width": 3, "color": theme.ink}},
    )  # fmt: skip
    yaxis = {"title": {"text": "experts in common"}, "tickformat": ".0%", "range": [0, 1]}
    figure = style(go.Figure([bars, marks]), theme, 280, yaxis=yaxis, hovermode="x unified")
    return figure.update_layout(showlegend=True, legend={"orientation": "h", "y": 1.16, "x": 0})
