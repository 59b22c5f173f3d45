"""Tokens as words on a page: white space visible, bytes that are no characters told as bytes."""

from typing import TYPE_CHECKING

from model.trace.trace import Trace

if TYPE_CHECKING:
    from model.checkpoint.tokenizer import Tokenizer

_VISIBLE = str.maketrans({" ": "·", "\t": "→", "\n": "⏎", "\r": "␍"})


def visible(spelled: bytes) -> str:
    """Text with its white space made visible; what is not UTF-8 or not printable is spelled as <0x..> bytes."""
    said = spelled.decode("utf-8", errors="surrogateescape").translate(_VISIBLE)
    return "".join(character if character.isprintable() else _as_bytes(character) for character in said)


def token(trace: Trace, index: int) -> str:
    """A token of a trace as it is named in tables."""
    entry = trace.tokens[index]
    if entry.start < entry.end:
        return visible(trace.text[entry.start : entry.end])
    return entry.piece or f"#{entry.id}"


def entry(token_id: int, vocabulary: "Tokenizer | None") -> str:
    """An entry of the vocabulary as it is named in tables; its number when the vocabulary is not at hand."""
    if vocabulary is None:
        return f"#{token_id}"
    return visible(vocabulary.token_bytes(token_id)) or vocabulary.piece(token_id) or f"#{token_id}"


def _as_bytes(character: str) -> str:
    return "".join(f"<0x{byte:02X}>" for byte in character.encode("utf-8", errors="surrogateescape"))
