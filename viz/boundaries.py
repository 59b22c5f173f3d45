"""The text as HTML with every token's boundaries: one chip per token, or per character that several tokens share.

Everything that comes from a text or a vocabulary is escaped here. Colours are shares of the writing's own colour, so
that both themes are served by one page.
"""

import html
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from viz.tokens import TokenLike, chips, inside_lookalikes, short_name, visible_parts

NOTHING, ID, BYTES = UNDER = ("nothing", "id", "bytes")
CSS = """
.boundaries { max-height: 27rem; overflow-y: auto; padding: 4px 5px; border-radius: 6px;
  border: 1px solid color-mix(in srgb, currentColor 18%, transparent); font: 16px/1.3 var(--st-code-font, monospace); }
.boundaries .chip { display: inline-flex; flex-direction: column; vertical-align: top; margin: 1px 1px 3px 0;
  padding: 1px 3px; border-radius: 3px; white-space: pre-wrap; overflow-wrap: anywhere; max-width: 100%;
  background: color-mix(in srgb, currentColor 7%, transparent); }
.boundaries .chip:nth-child(even of .chip) { background: color-mix(in srgb, currentColor 16%, transparent); }
.boundaries bdi { unicode-bidi: isolate; }
.boundaries i { font-style: normal; opacity: 0.55; }
.boundaries .generated bdi { text-decoration: underline; text-decoration-thickness: 1.5px; text-underline-offset: 4px; }
.boundaries .special { border: 1px solid currentColor; background: none !important; }
.boundaries .special bdi { font-variant: small-caps; }
.boundaries .lookalike { outline: 1px dashed currentColor; outline-offset: -1px; }
.boundaries .chosen { box-shadow: 0 0 0 2px currentColor; }
.boundaries small { font-size: 12px; line-height: 1.2; opacity: 0.75; }
.boundaries.legend { font-size: 14px; border: none; }
.boundaries.legend span { margin-right: 0.8em; }
@media (max-width: 1100px) { .boundaries { font-size: 18px; } }
"""
LEGEND = (
    '<div class="boundaries legend" dir="ltr"><span class="chip"><bdi>prompt</bdi></span>'
    '<span class="chip generated"><bdi>generated</bdi></span><span class="chip special"><bdi>special token</bdi></span>'
    '<span class="chip lookalike"><bdi>text that looks like one</bdi></span>'
    '<span class="chip"><i>·→⏎</i></span>white space</div>'
)


class MarkedToken(TokenLike, Protocol):
    """A token that knows its part of the run."""

    @property
    def generated(self) -> bool: ...
    @property
    def special(self) -> bool: ...


def text_with_boundaries(
    tokens: Sequence[MarkedToken],
    text: bytes,
    under: str = NOTHING,
    chosen: int | None = None,
    shown: range | None = None,
) -> str:
    """The text as chips.

    Args:
        tokens: their spans tile `text`.
        text: prompt and generated text; need not be valid UTF-8.
        under: what stands below each chip, one of `UNDER`.
        chosen: token to outline.
        shown: tokens to show; all when None. A character that begins among them is shown whole.
    """
    lookalikes = inside_lookalikes(text)
    shown = range(len(tokens)) if shown is None else shown
    written = [
        _chip(tokens, text, first, last, under, chosen, lookalikes)
        for first, last, _ in chips(tokens, text)
        if first in shown
    ]
    label = "The text as tokens; each chip says its number, id and bytes"
    return f'<div class="boundaries" dir="ltr" role="group" tabindex="0" aria-label="{label}">{"".join(written)}</div>'


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
    classes = " ".join(["chip", *(name for name, holds in marks.items() if holds)])
    inner = "".join(_writing(spelled)) if spelled else f"<bdi>{html.escape(short_name(token))}</bdi>"
    below = f"<small>{html.escape(_below(tokens[first : last + 1], text, under))}</small>" if under != NOTHING else ""
    title = html.escape(describe(tokens, text, first, last), quote=True)
    line_end = "<br>" if spelled.endswith(b"\n") else ""
    return f'<span class="{classes}" title="{title}"><span>{inner}</span>{below}</span>{line_end}'


def _writing(spelled: bytes) -> Iterator[str]:
    for part, is_sign in visible_parts(spelled):
        tag = "i" if is_sign else "bdi"
        yield f"<{tag}>{html.escape(part)}</{tag}>"


def _below(tokens: Sequence[TokenLike], text: bytes, under: str) -> str:
    if under == ID:
        return " ".join(str(token.id) for token in tokens)
    return " | ".join(spelled_bytes(text[token.start : token.end]) for token in tokens)


def spelled_bytes(spelled: bytes) -> str:
    """Bytes as they are read: `20 77`; a dash for none."""
    return spelled.hex(" ").upper() or "–"


def describe(tokens: Sequence[MarkedToken], text: bytes, first: int, last: int) -> str:
    """A chip in words: which tokens, their ids, their bytes, where they come from."""
    token, some = tokens[first], tokens[first : last + 1]
    which = f"token {first}" if first == last else f"tokens {first} to {last}, one character"
    number = tokens[last].end - token.start
    size = "no text" if number == 0 else f"{number} byte{'s'[: number > 1]} {_below(some, text, BYTES)}"
    part = "generated" if token.generated else "prompt"
    name = f", {token.piece}" if token.special else ""
    return f"{which}, id {_below(some, text, ID)}, {size}, {part}{', special' if token.special else ''}{name}"
