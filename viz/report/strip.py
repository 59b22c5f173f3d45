"""The report's text as a strip of chips: one per token, coloured by the expert with the largest weight."""

from collections.abc import Mapping, Sequence

from viz import strip
from viz.report import colors
from viz.report.markup import element, text
from viz.tokens import MarkedToken, chips, short_name

CSS = (
    strip.CSS
    + """
.strip.report { max-height: none; overflow: visible; border: none; padding: 0; font: 15px/1.5 var(--mono); }
.strip.report .chip { background: color-mix(in srgb, var(--top, transparent) 20%, transparent); padding-bottom: 4px;
  box-shadow: inset 0 -3px 0 var(--top, var(--grid)); }
.strip.report .chip.chosen { outline: 2px solid var(--ink); }
.strip.report a { color: inherit; text-decoration: none; }
.strip.report i { opacity: 1; color: var(--muted); }
"""
)


def text_strip(
    tokens: Sequence[MarkedToken],
    spelled: bytes,
    experts: Mapping[int, int],
    hovers: Mapping[int, str],
    shown: range,
    chosen: int | None = None,
    first_number: int = 0,
) -> str:
    """Return the text as HTML, a chip per token or per character that several tokens share.

    Args:
        tokens: tokens in a row, with byte spans that cover `spelled` without gap or overlap.
        spelled: prompt and generated text; need not be valid UTF-8.
        experts: token -> expert whose colour the chip has; a token that is left out has no colour.
        hovers: token -> its hover text.
        shown: range of tokens to show; a character that begins in the range is shown whole.
        chosen: token to outline.
        first_number: number of the first token in `tokens`. The arguments above and the links count from 0 in the run.
    """
    parts = []
    for first, last, _ in chips(tokens, spelled):
        number = first_number + first
        if number not in shown:
            continue
        part = spelled[tokens[first].start : tokens[last].end]
        inside = strip.writing(part) or element("bdi", text(short_name(tokens[first])))
        marks = {
            "generated": tokens[first].generated,
            "special": tokens[first].special,
            "chosen": chosen is not None and number <= chosen <= first_number + last,
        }
        css = f"--top: {colors.of_expert(experts[number])}" if number in experts else ""
        parts.append(strip.chip(element("a", inside, href=f"#token-{number}"), hovers[number], marks, css))
        parts.append("<br>" if part.endswith(b"\n") else "")
    return strip.framed("report", "The text as tokens; each leads to its row in the table", parts)


LEGEND = strip.legend(
    "report",
    '<span class="chip"><bdi>prompt</bdi></span><span class="chip generated"><bdi>generated</bdi></span>'
    '<span class="chip special"><bdi>special token</bdi></span><span class="chip"><i>·→⏎</i></span>white space',
)
