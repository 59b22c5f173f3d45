"""Text as tokens: white space made visible, characters kept whole, bytes per token.

Strings that come out of here are plain text: whoever puts them into HTML escapes them.
"""

import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import plotly.graph_objects as go

from viz.axis import note
from viz.theme import Theme, style

# Every byte sequence that is as long as its first byte says; decoding decides whether it is a character.
_MULTI_BYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
# Control characters by their pictures (U+2400), and what would reorder the text around it by its number.
_VISIBLE = {code: chr(0x2400 + code) for code in range(32)} | {0x7F: "␡", ord(" "): "·", ord("\t"): "→", ord("\n"): "⏎"}
_VISIBLE |= {code: f"\\u{code:04x}" for code in (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}


class TokenLike(Protocol):
    """What is needed of a token: its byte span in the text, and its names where it spans nothing."""

    @property
    def id(self) -> int: ...
    @property
    def piece(self) -> str: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...


def visible(text: bytes) -> str:
    r"""Text with white space shown: `·` space, `→` tab, `⏎` line feed; bytes that are no character as `\xNN`.

    >>> visible(b" a\n\xff")
    '·a⏎\\xff'
    """
    return text.decode("utf-8", errors="backslashreplace").translate(_VISIBLE)


def inside_characters(text: bytes) -> np.ndarray:
    """Whether a byte offset lies inside a character, bool [len(text) + 1]; never true inside invalid bytes."""
    inside = np.zeros(len(text) + 1, dtype=bool)
    for match in _MULTI_BYTE.finditer(text):
        if _decodes(match.group()):
            inside[match.start() + 1 : match.end()] = True
    return inside


def _decodes(character: bytes) -> bool:
    try:
        character.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def chips(tokens: Sequence[TokenLike], text: bytes) -> list[tuple[int, int, str]]:
    """How tokens are shown: (first token, last token, display), several tokens together where they share a character.

    A token that spans nothing stands alone under its name in the vocabulary, or `#id` where it has none.

    Args:
        tokens: their spans tile `text`.
        text: prompt and generated text; need not be valid UTF-8.
    """
    inside, shown, first = inside_characters(text), [], 0
    for index, token in enumerate(tokens):
        if token.start == token.end:
            shown.append((index, index, token.piece or f"#{token.id}"))
            first = index + 1
        elif not inside[token.end] or _ends_run(tokens, index):
            shown.append((first, index, visible(text[tokens[first].start : token.end])))
            first = index + 1
    return shown


def _ends_run(tokens: Sequence[TokenLike], index: int) -> bool:
    """Whether no token with text follows directly."""
    return index + 1 == len(tokens) or tokens[index + 1].start == tokens[index + 1].end


def token_labels(tokens: Sequence[TokenLike], text: bytes) -> list[str]:
    """One label per token for axes; the first token of a shared character carries it, the others show `…`."""
    labels = ["…"] * len(tokens)
    for first, _, display in chips(tokens, text):
        labels[first] = display
    return labels


def bytes_per_token(sizes: np.ndarray, theme: Theme) -> go.Figure:
    """How many bytes of text the tokens span, as counts.

    Args:
        sizes: [token], end - start; 0 for special tokens, which are left out.
        theme: colours.
    """
    spans = np.asarray(sizes)[np.asarray(sizes) > 0]
    counts = np.bincount(spans)[1:]
    hover = "%{x} bytes<br>%{y} tokens (measured)<extra></extra>"
    bars = go.Bar(x=np.arange(1, len(counts) + 1), y=counts, marker_color=theme.sequential[-3], hovertemplate=hover)
    xaxis = {"title": {"text": "bytes in a token"}, "showgrid": False, "tickformat": "d"}
    figure = style(go.Figure(bars), theme, 240, xaxis=xaxis, yaxis={"title": {"text": "tokens"}, "rangemode": "tozero"})
    mean = f", mean {spans.mean():.3g} bytes" if len(spans) else ""
    return note(figure, f"n = {len(spans):,} tokens{mean}", theme)
