"""Text as tokens: signs for white space, chips of whole characters, bytes per token.

Functions return plain text; a caller that puts it into HTML escapes it.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import plotly.graph_objects as go
import regex

from viz.axis import note
from viz.theme import Theme, style

# Invisible characters: white space, control characters, direction marks, and broken bytes, which are represented as
# halves of surrogate pairs. A joiner inside a word is left out of the pattern, because it shapes its neighbours. The
# browser uses the same pattern, in viz/lens/text.js.
INVISIBLE = (
    r"[\x00-\x20\x7f-\xa0\xad\u061c\u1680\u180e\u2000-\u200b\u200e\u200f\u2028-\u202f\u205f-\u206f\u3000\u3164"
    r"\ufeff\ufff9-\ufffb\udc80-\udcff]|^[\u200c\u200d]"
)
_INVISIBLE = re.compile(f"((?:{INVISIBLE})+)")
_BROKEN_BYTE = re.compile("[\udc80-\udcff]")
_GRAPHEME_CLUSTER = regex.compile(r"\X")
_PICTURES = {" ": "·", "\t": "→", "\n": "⏎", "\x7f": "␡"}
# Text that looks like a special token of DeepSeek or of another model family.
_SPECIAL_FORM = re.compile("<[|｜][^<>|｜\n]{1,60}[|｜]>|</?s>|<(?:bos|eos|pad|unk)>")


class TokenLike(Protocol):
    """A token as this module needs it: its byte span in the text, its id, and `piece`, its name in the vocabulary."""

    @property
    def id(self) -> int: ...
    @property
    def piece(self) -> str: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...


class MarkedToken(TokenLike, Protocol):
    """A token that also says whether it was generated and whether it is special."""

    @property
    def generated(self) -> bool: ...
    @property
    def special(self) -> bool: ...


def visible(text: bytes) -> str:
    r"""Return text with visible white space: `·` space, `→` tab, `⏎` line feed, `\uNNNN` others, `\xNN` broken bytes.

    >>> visible(b" a\n\xff")
    '·a⏎\\xff'
    """
    return "".join(part for part, _ in visible_parts(text))


def visible_parts(text: bytes) -> Iterator[tuple[str, bool]]:
    r"""Yield (part, is_sign): the text in parts; a part with `is_sign` consists of signs for invisible characters.

    >>> list(visible_parts(b"a\t b"))
    [('a', False), ('→·', True), ('b', False)]
    """
    for index, part in enumerate(_INVISIBLE.split(text.decode("utf-8", errors="surrogateescape"))):
        if part:
            yield ("".join(map(_sign, part)), True) if index % 2 else (part, False)


def _sign(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return _PICTURES.get(character) or (chr(0x2400 + code) if code < 0x20 else f"\\u{code:04x}")


def inside_characters(text: bytes) -> np.ndarray:
    """Return a mask of the byte offsets that are inside a grapheme cluster (UAX 29), bool [len(text) + 1].

    A letter with its combining marks is one cluster, and so is a joined emoji. Two exceptions, as in `text.js`: a
    broken byte is its own cluster, and an ASCII character always begins one (CR and LF are two signs).
    """
    if text.isascii():
        return np.zeros(len(text) + 1, dtype=bool)
    # A control character stands in for a broken byte: it too has one byte and never joins its neighbours.
    whole = _BROKEN_BYTE.sub("\0", text.decode("utf-8", errors="surrogateescape"))
    sizes = (len(cluster.encode()) for cluster in _GRAPHEME_CLUSTER.findall(whole))
    inside = np.frombuffer(b"".join(b"\0" + b"\1" * (size - 1) for size in sizes) + b"\0", dtype=bool)
    return inside & (np.frombuffer(text + b"\0", dtype=np.uint8) >= 0x80)


def special_lookalikes(text: bytes) -> list[tuple[int, int]]:
    """Return the byte ranges of plain text that looks like a special token of a known model family.

    >>> special_lookalikes("a<｜User｜>".encode())
    [(1, 13)]
    """
    decoded = text.decode("utf-8", errors="surrogateescape")
    spans, position, offset = [], 0, 0
    for match in _SPECIAL_FORM.finditer(decoded):
        start = offset + len(decoded[position : match.start()].encode("utf-8", errors="surrogateescape"))
        position, offset = match.end(), start + len(match.group().encode("utf-8", errors="surrogateescape"))
        spans.append((start, offset))
    return spans


def inside_lookalikes(text: bytes) -> np.ndarray:
    """Return a mask of the bytes of plain text that looks like a special token, bool [len(text)]."""
    inside = np.zeros(len(text), dtype=bool)
    for start, end in special_lookalikes(text):
        inside[start:end] = True
    return inside


def name(token: TokenLike, text: bytes) -> str:
    """Return the name of a token: its text, else the vocabulary's name without brackets, else its id, else `?`."""
    if token.start < token.end:
        return visible(text[token.start : token.end])
    return short_name(token) if token.piece or token.id >= 0 else "?"


def short_name(token: TokenLike) -> str:
    """Return the name of a token without text: its vocabulary entry without brackets, else its id."""
    return bare_name(token.piece) or f"#{token.id}"


def bare_name(piece: str) -> str:
    """Return a special entry of a vocabulary without its brackets; a page may draw a box around it instead.

    >>> bare_name("<｜begin▁of▁sentence｜>")
    'begin of sentence'
    """
    name = visible(piece.encode("utf-8", errors="surrogatepass"))
    return name.strip("<>|｜").replace("▁", " ") or name


def chips(tokens: Sequence[TokenLike], text: bytes) -> list[tuple[int, int, str]]:
    """Return chips (first token, last token, text to show); tokens that share a character share a chip.

    A token with an empty span has its own chip, with its short name.

    Args:
        tokens: the tokens, with byte spans that cover `text` without gap or overlap.
        text: prompt and generated text; need not be valid UTF-8.
    """
    inside, spans, first = inside_characters(text), [], 0
    for index, token in enumerate(tokens):
        if token.start == token.end:
            spans.append((index, index, short_name(token)))
            first = index + 1
        elif not inside[token.end] or _ends_run(tokens, index):
            spans.append((first, index, visible(text[tokens[first].start : token.end])))
            first = index + 1
    return spans


def _ends_run(tokens: Sequence[TokenLike], index: int) -> bool:
    """Return whether the token at `index` ends a stretch of text: the next token has no text, or none follows."""
    return index + 1 == len(tokens) or tokens[index + 1].start == tokens[index + 1].end


def token_labels(tokens: Sequence[TokenLike], text: bytes) -> list[str]:
    """Return an axis label per token. A character of several tokens labels the first of them; the rest have `…`."""
    labels = ["…"] * len(tokens)
    for first, _, display in chips(tokens, text):
        labels[first] = display
    return labels


def bytes_per_token(sizes: np.ndarray, theme: Theme) -> go.Figure:
    """Draw how many tokens there are of each size in bytes.

    Args:
        sizes: bytes of each token, [token]; 0 for special tokens, which are left out.
        theme: colours.
    """
    spans = np.asarray(sizes)[np.asarray(sizes) > 0]
    counts = np.bincount(spans)[1:]
    hover = "%{x} bytes<br>%{y} tokens (measured)<extra></extra>"
    bars = go.Bar(x=np.arange(1, len(counts) + 1), y=counts, marker_color=theme.sequential[-3], hovertemplate=hover)
    xaxis = {"title": {"text": "bytes per token"}, "showgrid": False, "tickformat": "d"}
    figure = style(go.Figure(bars), theme, 240, xaxis=xaxis, yaxis={"title": {"text": "tokens"}, "rangemode": "tozero"})
    mean = f", mean {spans.mean():.3g} bytes" if len(spans) else ""
    return note(figure, f"n = {len(spans):,} tokens{mean}", theme)
