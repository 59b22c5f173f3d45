"""Facts about the text of a run: its tokens, bytes, words and lines, and how surprising its tokens were.

Tokens are numbered from 0; the first one often is special and stands for no text. Lines are numbered from 1.
"""

import numpy as np

from model.trace import metrics
from model.trace.facts.lines import bytes_of_line, tokens_of_line
from model.trace.facts.sources import FactError, Sources


def tokens(sources: Sources) -> int:
    """Return the number of tokens of the run, with special tokens."""
    return sources.trace.num_tokens


def text_tokens(sources: Sources) -> int:
    """Return the number of tokens that stand for text."""
    return len(sources.texts)


def text_bytes(sources: Sources) -> int:
    """Return the number of bytes of the text, in UTF-8."""
    return len(sources.trace.text)


def characters(sources: Sources) -> int:
    """Return the number of characters of the text, as Unicode code points."""
    return len(_decoded(sources))


def words(sources: Sources) -> int:
    """Return the number of words of the text: pieces between white space."""
    return len(_decoded(sources).split())


def bytes_in(sources: Sources, piece: str) -> int:
    """Return the number of bytes of a piece of text, in UTF-8."""
    return len(piece.encode())


def position(sources: Sources, piece: str, occurrence: int = 1) -> int:
    """Return the number of the token in which an occurrence of a piece of text begins; occurrences count from 1."""
    return _tokens_of(sources, piece, occurrence)[0]


def pieces(sources: Sources, piece: str, occurrence: int = 1) -> int:
    """Return the number of tokens that hold a byte of an occurrence of a piece of text."""
    return len(_tokens_of(sources, piece, occurrence))


def token_text(sources: Sources, token: int) -> str:
    """Return the text of a token; bytes that are no whole character become replacement characters."""
    at = sources.trace.tokens[sources.token(token)]
    return sources.trace.text[at.start : at.end].decode("utf-8", "replace")


def token_id(sources: Sources, token: int) -> int:
    """Return the number of a token's entry in the vocabulary."""
    return sources.trace.tokens[sources.token(token)].id


def most_digits(sources: Sources) -> int:
    """Return the number of digits of the longest token that consists of digits only; 0 if there is none."""
    texts = [token_text(sources, int(token)).strip() for token in sources.texts]
    return max((len(text) for text in texts if text.isdigit()), default=0)


def line_tokens(sources: Sources, line: int) -> int:
    """Return the number of tokens that begin in a line of the text, with its line break."""
    return len(tokens_of_line(sources.trace, line))


def line_characters(sources: Sources, line: int) -> int:
    """Return the number of characters of a line, as Unicode code points, without its line break."""
    first, end = bytes_of_line(sources.trace, line)
    return len(sources.trace.text[first:end].decode("utf-8", "replace").rstrip("\n"))


def line_bytes(sources: Sources, line: int) -> int:
    """Return the number of bytes of a line, without its line break."""
    first, end = bytes_of_line(sources.trace, line)
    return len(sources.trace.text[first:end].rstrip(b"\n"))


def longest_line(sources: Sources) -> int:
    """Return the number of the line with the most tokens."""
    count = len(sources.trace.text.splitlines())
    return 1 + int(np.argmax([line_tokens(sources, line) for line in range(1, count + 1)]))


def surprisal(sources: Sources, token: int) -> float:
    """Return how unexpected a token was to the model, in bits.

    Raises:
        FactError: the token has no earlier one.
    """
    value = float(metrics.surprisal_bits(sources.variable("logprob"))[sources.token(token)])
    if np.isnan(value):
        raise FactError(f"token {token} has no earlier token, so its surprisal is not known")
    return value


def most_surprising(sources: Sources, first: int = 1) -> int:
    """Return the number of the token with the largest surprisal, from token `first` on."""
    bits = metrics.surprisal_bits(sources.variable("logprob")).values.astype(float)
    bits[: sources.token(first)] = np.nan
    if np.isnan(bits).all():
        raise FactError("no token of this run has a known surprisal")
    return int(np.nanargmax(bits))


def mean_surprisal(sources: Sources, first: int, last: int) -> float:
    """Return the mean surprisal of the tokens from `first` to `last`, in bits; unknown values are left out."""
    part = sources.variable("logprob").isel(token=slice(sources.token(first), sources.token(last) + 1))
    return metrics.mean_surprisal_bits(part)


def _tokens_of(sources: Sources, piece: str, occurrence: int) -> list[int]:
    sought, start = piece.encode(), -1
    for _ in range(occurrence):
        start = sources.trace.text.find(sought, start + 1) if sought else -1
        if start < 0:
            raise FactError(f"the text does not hold {piece!r:.40} {occurrence} times")
    end, found = start + len(sought), enumerate(sources.trace.tokens)
    return [number for number, token in found if token.start < end and token.end > start]


def _decoded(sources: Sources) -> str:
    return sources.trace.text.decode("utf-8", "replace")
