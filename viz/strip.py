"""A text as a strip of chips, in HTML: the frame, and the marks of a token, the same wherever text is shown.

Prompt is plain, generated text underlined, a special token boxed in small caps, the chosen token outlined. What a strip
shows besides has rules of its own, under the class of its kind, beside its maker. All text is escaped here, but for the
inside of a chip, which its maker escapes.
"""

import html
from collections.abc import Iterable, Mapping

from viz.tokens import visible_parts

CSS = """
.strip { overflow-y: auto; padding: 4px 5px; border-radius: 6px;
  border: 1px solid color-mix(in srgb, currentColor 18%, transparent); font: 16px/1.4 var(--st-code-font, monospace); }
.strip .chip { display: inline-block; margin: 1px 1px 3px 0; padding: 1px 3px; border-radius: 3px; max-width: 100%;
  white-space: pre-wrap; overflow-wrap: anywhere; background: color-mix(in srgb, currentColor 7%, transparent); }
.strip bdi { unicode-bidi: isolate; }
.strip i { font-style: normal; opacity: 0.55; }
.strip .generated :is(bdi, i):not(small *) { text-decoration: underline; text-decoration-thickness: 1.5px;
  text-underline-offset: 4px; }
.strip .special { border: 1px solid currentColor; }
.strip .special bdi { font-variant: small-caps; }
.strip .chosen { box-shadow: 0 0 0 2px currentColor; }
.strip.legend { font-size: 14px; border: none; max-height: none; }
@media (max-width: 1100px) { .strip { font-size: 18px; } }
"""


def framed(kind: str, label: str, chips: Iterable[str]) -> str:
    """The strip: chips that can be scrolled from the keyboard.

    Args:
        kind: class of the strip's own rules.
        label: what it is, for those who do not see it.
        chips: from `chip`.
    """
    name = html.escape(label, quote=True)
    return f'<div class="strip {kind}" dir="ltr" role="group" tabindex="0" aria-label="{name}">{"".join(chips)}</div>'


def legend(kind: str, inside: str) -> str:
    """What the looks of a strip mean, as HTML."""
    return f'<div class="strip {kind} legend" dir="ltr">{inside}</div>'


def chip(inside: str, said: str, marks: Mapping[str, object], look: str = "") -> str:
    """A token, or several that share a character.

    Args:
        inside: HTML; the token's own text in `bdi`, as `writing` makes it.
        said: when it is pointed at.
        marks: class -> whether it holds: `generated`, `special`, `chosen`, and those of the kind.
        look: style of this chip alone.
    """
    classes = " ".join(["chip", *(name for name, holds in marks.items() if holds)])
    style = f' style="{look}"' if look else ""
    return f'<span class="{classes}" title="{html.escape(said, quote=True)}"{style}>{inside}</span>'


def writing(spelled: bytes) -> str:
    """Text as the inside of a chip, the signs for what cannot be seen in grey."""
    tags = {True: "i", False: "bdi"}
    parts = ((tags[is_sign], html.escape(part)) for part, is_sign in visible_parts(spelled))
    return "".join(f"<{tag}>{part}</{tag}>" for tag, part in parts)
