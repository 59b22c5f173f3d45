"""A text as a strip of chips, in HTML: the parts that all views of a text use.

Prompt is plain, generated text underlined, a special token boxed in small caps, the chosen token outlined. The module
of each view adds CSS under a class of its own. This module escapes all text except the inside of a chip, which the
caller escapes.
"""

import html
from collections.abc import Iterable, Mapping

from viz.tokens import visible_parts

CSS = """
.strip { overflow-y: auto; padding: 4px 5px; border-radius: 6px;
  border: 1px solid color-mix(in srgb, currentColor 18%, transparent);
  font: calc(16px * var(--text-scale, 1))/1.4 var(--st-code-font, monospace); }
.strip .chip { display: inline-block; margin: 1px 1px 3px 0; padding: 1px 3px; border-radius: 3px; max-width: 100%;
  white-space: pre-wrap; overflow-wrap: anywhere; background: color-mix(in srgb, currentColor 7%, transparent); }
.strip bdi { unicode-bidi: isolate; }
.strip i { font-style: normal; opacity: 0.75; }
.strip .generated :is(bdi, i):not(small *) { text-decoration: underline; text-decoration-thickness: 1.5px;
  text-underline-offset: 4px; }
.strip .special { border: 1px solid currentColor; }
.strip .special bdi { font-variant: small-caps; }
.strip .chosen { box-shadow: 0 0 0 2px currentColor; }
.strip.legend { font-size: calc(14px * var(--text-scale, 1)); border: none; max-height: none; }
@media (max-width: 1100px) { .strip { font-size: calc(18px * max(1, var(--text-scale, 1) / 1.2)); } }
"""


def framed(kind: str, label: str, chips: Iterable[str]) -> str:
    """Return the strip of chips as HTML; it can be scrolled from the keyboard.

    Args:
        kind: CSS class of the view.
        label: description for screen readers.
        chips: chips as `chip` returns them.
    """
    name = html.escape(label, quote=True)
    return f'<div class="strip {kind}" dir="ltr" role="group" tabindex="0" aria-label="{name}">{"".join(chips)}</div>'


def legend(kind: str, inside: str) -> str:
    """Return the legend of a strip as HTML. `kind` is the CSS class of the view, `inside` is HTML."""
    return f'<div class="strip {kind} legend" dir="ltr">{inside}</div>'


def chip(inside: str, hover: str, marks: Mapping[str, object], css: str = "") -> str:
    """Return, as HTML, the chip of a token, or of several tokens that share a character.

    Args:
        inside: HTML; the token's text in a `bdi` element, as `writing` returns it.
        hover: hover text.
        marks: by CSS class, whether the chip has it: `generated`, `special`, `chosen`, and classes of the view.
        css: inline style of this chip.
    """
    classes = " ".join(["chip", *(name for name, holds in marks.items() if holds)])
    style = f' style="{css}"' if css else ""
    return f'<span class="{classes}" title="{html.escape(hover, quote=True)}"{style}>{inside}</span>'


def writing(spelled: bytes) -> str:
    """Return text as HTML for the inside of a chip, with grey signs for invisible characters."""
    tags = {True: "i", False: "bdi"}
    parts = ((tags[is_sign], html.escape(part)) for part, is_sign in visible_parts(spelled))
    return "".join(f"<{tag}>{part}</{tag}>" for tag, part in parts)
