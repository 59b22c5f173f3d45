"""The text with the draft of every token below it, as HTML, and how alike wrong drafts and their tokens were routed.

Everything that comes from a text or a vocabulary is escaped here. A right draft is marked by a sign and not by its
colour alone.
"""

import html
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from viz.theme import Theme, style

CSS = """
.drafts { max-height: 27rem; overflow-y: auto; padding: 4px 5px; border-radius: 6px;
  border: 1px solid color-mix(in srgb, currentColor 18%, transparent); font: 16px/1.3 var(--st-code-font, monospace); }
.drafts .chip { display: inline-flex; flex-direction: column; vertical-align: top; margin: 1px 1px 4px 0;
  padding: 1px 3px; border-radius: 3px; white-space: pre; max-width: 100%; overflow: hidden; text-overflow: ellipsis;
  background: color-mix(in srgb, currentColor 7%, transparent); border-bottom: 3px solid transparent; }
.drafts bdi { unicode-bidi: isolate; }
.drafts small { font-size: 13px; line-height: 1.25; min-height: 1.25em; }
.drafts .right { border-bottom-color: #0072b2; }
.drafts .wrong small { opacity: 0.85; }
.drafts .wrong { border-bottom-color: #d55e00; }
.drafts .untried { border-bottom-style: dotted; }
.drafts .generated bdi { text-decoration: underline; text-decoration-thickness: 1.5px; text-underline-offset: 4px; }
.drafts .chosen { box-shadow: 0 0 0 2px currentColor; }
.drafts.legend { font-size: 14px; border: none; }
.drafts.legend .chip { margin: 0 6px 0 14px; }
@media (max-width: 1100px) { .drafts { font-size: 18px; } }
"""
LEGEND = (
    '<div class="drafts legend" dir="ltr">'
    '<span class="chip right generated"><bdi>token</bdi><small>✓</small></span>right, and tried'
    '<span class="chip wrong generated"><bdi>token</bdi><small>draft</small></span>wrong, and tried'
    '<span class="chip right untried"><bdi>token</bdi><small>✓</small></span>right, not tried'
    '<span class="chip wrong untried"><bdi>token</bdi><small>draft</small></span>wrong, not tried</div>'
)


def text_with_drafts(
    tokens: Sequence[str],
    drafts: Sequence[str | None],
    right: Sequence[bool],
    tried: Sequence[bool],
    generated: Sequence[bool],
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
        chosen: number of the token to outline.
        first: number of the first of these tokens.
    """
    written = []
    for place, (token, draft) in enumerate(zip(tokens, drafts, strict=True)):
        kinds = ["chip"] + ["generated"] * generated[place] + ["chosen"] * (first + place == chosen)
        said, below = "no draft", ""
        if draft is not None:
            kinds += ["right" if right[place] else "wrong"] + ["untried"] * (not tried[place])
            below = "✓" if right[place] else draft
            said = f"draft {draft!r}, {'right' if right[place] else 'wrong'}{'' if tried[place] else ', not tried'}"
        title = html.escape(f"token {first + place}: {said}", quote=True)
        written.append(
            f'<span class="{" ".join(kinds)}" title="{title}">'
            f"<bdi>{html.escape(token)}</bdi><small><bdi>{html.escape(below)}</bdi></small></span>"
        )
    label = "The text with the draft of each token below it"
    return f'<div class="drafts" dir="ltr" role="group" tabindex="0" aria-label="{label}">{"".join(written)}</div>'


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
