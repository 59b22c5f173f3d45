"""Tokens as words on a page, named the same way in every table and choice."""

from typing import TYPE_CHECKING

from model.trace.trace import Trace
from viz.tokens import visible

if TYPE_CHECKING:
    from model.checkpoint.tokenizer import Tokenizer


def token(trace: Trace, index: int) -> str:
    """A token of a trace as it is named in tables; `?` where a recording does not say which it is."""
    entry = trace.tokens[index]
    if entry.start < entry.end:
        return visible(trace.text[entry.start : entry.end])
    return entry.piece or (f"#{entry.id}" if entry.id >= 0 else "?")


def entry(token_id: int, vocabulary: "Tokenizer | None") -> str:
    """An entry of the vocabulary as it is named in tables; its number when the vocabulary is not at hand."""
    if vocabulary is None:
        return f"#{token_id}"
    return visible(vocabulary.token_bytes(token_id)) or vocabulary.piece(token_id) or f"#{token_id}"
