"""The text with token boundaries, as HTML: one chip per token, or per character that several tokens share.

This module escapes everything that comes from a text or a vocabulary. Colours are mixed from the text colour, so the
HTML fits both themes.
"""

import html
from collections.abc import Sequence

import numpy as np

from viz import strip
from viz.tokens import MarkedToken, TokenLike, chips, inside_lookalikes, short_name

NOTHING, ID, BYTES = UNDER = ("nothing", "id", "bytes")
CSS = (
    strip.CSS
    + """
.boundaries { max-height: 27rem; }
.boundaries .chip { display: inline-flex; flex-direction: column; vertical-align: top; }
.boundaries .chip:nth-child(even of .chip) { background: color-mix(in srgb, currentColor 16%, transparent); }
.boundaries .special { background: none !important; }
.boundaries .lookalike { outline: 1px dashed currentColor; outline-offset: -1px; }
.boundaries small { font-size: calc(12px * var(--text-scale, 1)); line-height: 1.2; opacity: 0.75; }
.boundaries.legend span { margin-right: 0.8em; }
"""
)
LEGEND = strip.legend(
    "boundaries",
    '<span class="chip"><bdi>prompt</bdi></span><span class="chip generated"><bdi>generated</bdi></span>'
    '<span class="chip special"><bdi>special token</bdi></span>'
    '<span class="chip lookalike"><bdi>text that looks like one</bdi></span>'
    '<span class="chip"><i>·→⏎</i></span>white space',
)


def text_with_boundaries(
    tokens: Sequence[MarkedToken],
    text: bytes,
    under: str = NOTHING,
    chosen: int | None = None,
    shown: range | None = None,
) -> str:
    """Return the text as HTML, a chip per token.

    Args:
        tokens: the tokens, with byte spans that cover `text` without gap or overlap.
        text: prompt and generated text; need not be valid UTF-8.
        under: line below each chip, one of `UNDER`.
        chosen: token to outline.
        shown: range of tokens to show; None: all. A character that begins in the range is shown whole.
    """
    lookalikes = inside_lookalikes(text)
    shown = range(len(tokens)) if shown is None else shown
    shown_chips = [
        _chip(tokens, text, first, last, under, chosen, lookalikes)
        for first, last, _ in chips(tokens, text)
        if first in shown
    ]
    return strip.framed("boundaries", "The text as tokens; each chip has its number, id and bytes", shown_chips)


def _chip(
    tokens: Sequence[MarkedToken],
    text: bytes,
    first: int,
    last: int,
    under: str,
    chosen: int | None,
    lookalikes: np.ndarray,
) -> str:
    token, spelled = tokens[first], text[tokens[first].start : tokens[last].end]
    marks = {
        "generated": token.generated,
        "special": token.special,
        "lookalike": lookalikes[token.start : tokens[last].end].any(),
        "chosen": chosen is not None and first <= chosen <= last,
    }
    inner = strip.writing(spelled) or f"<bdi>{html.escape(short_name(token))}</bdi>"
    below = f"<small>{html.escape(_below(tokens[first : last + 1], text, under))}</small>" if under != NOTHING else ""
    line_end = "<br>" if spelled.endswith(b"\n") else ""
    return strip.chip(f"<span>{inner}</span>{below}", describe(tokens, text, first, last), marks) + line_end


def _below(tokens: Sequence[TokenLike], text: bytes, under: str) -> str:
    if under == ID:
        return " ".join(str(token.id) for token in tokens)
    return " | ".join(spelled_bytes(text[token.start : token.end]) for token in tokens)


def spelled_bytes(spelled: bytes) -> str:
    """Return bytes in hexadecimal, such as `20 77`; a dash if there are none."""
    return spelled.hex(" ").upper() or "–"


def describe(tokens: Sequence[MarkedToken], text: bytes, first: int, last: int) -> str:
    """Return the hover text of the chip of tokens `first` to `last`: numbers, ids, bytes, prompt or generated."""
    token, members = tokens[first], tokens[first : last + 1]
    which = f"token {first}" if first == last else f"tokens {first} to {last}, one character"
    number = tokens[last].end - token.start
    size = "no text" if number == 0 else f"{number} byte{'s'[: number > 1]} {_below(members, text, BYTES)}"
    part = "generated" if token.generated else "prompt"
    name = f", {token.piece}" if token.special else ""
    return f"{which}, id {_below(members, text, ID)}, {size}, {part}{', special' if token.special else ''}{name}"
