"""Converts text to token ids and back with the vocabulary of a tokenizer.json.

`vocabulary.py` says which kinds of vocabulary are known. The `tokenizers` library encodes the text. It also matches
added tokens that the file does not mark as special. This module differs from the library in three ways:

- The spelling of a special token stays text, unless the caller sets `parse_special`.
- Special tokens that begin a run are never added here; the engine adds `first_ids` once.
- Every token is decoded to its own bytes, wherever it stands. The bytes of all tokens, joined, are the text of a run. A
  token may be a part of a character, so the bytes of a run need not be valid UTF-8.

The text of a run can therefore differ from the prompt where the vocabulary itself changes the text:

- Most SentencePiece vocabularies put a space before a text. The text of the run then begins with this space.
- SentencePiece spells a space `▁`, so a `▁` in the prompt becomes a space.
- A normaliser (NFC, NFKC) replaces characters before they are encoded.
- A character without an entry becomes the token of unknown characters, which has no text.

Source: the published tokenizer.json of DeepSeek-V3.
"""

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

from model.checkpoint.chat_template import ASSISTANT, USER
from model.checkpoint.encoding import Encoding, EncodingError, is_harmless
from model.checkpoint.encoding_worker import Worker
from model.checkpoint.files import find_file
from model.checkpoint.first_tokens import begins_with_bos, first_tokens
from model.checkpoint.header import LFS_POINTER, first_line, lfs_refusal
from model.checkpoint.vocabulary import VocabularyError, added_tokens, entries, from_alphabet, spelling, unknown_id
from model.trace.limits import TOKENIZER, check_json
from model.trace.ordinary import read_ordinary
from model.trace.trace import Token

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"


class TokenizerError(ValueError):
    """A tokenizer.json cannot be used, or a text cannot be encoded."""


class Tokenizer:
    """The vocabulary of a tokenizer.json, with its special tokens.

    Attributes:
        sha256: hash of the file.
        first_ids: ids of the tokens that begin each run.
        notes: one line for each rule on these tokens that another file of the folder contradicts.
    """

    def __init__(self, published: dict[str, Any], sha256: str) -> None:
        """Make a tokenizer from a parsed tokenizer.json; see `load`."""
        self.sha256 = sha256
        numbered, added = entries(published), added_tokens(published)
        self._bytes_of = spelling(published, numbered)
        self._special = {entry["id"]: entry["content"] for entry in added if entry.get("special")}
        self._plain = {entry["id"]: entry["content"] for entry in added if not entry.get("special")}
        self._encoder = Encoding(published) if is_harmless(published) else Worker(published)
        self._pieces = {entry_id: piece for piece, entry_id in numbered.items()} | self._special | self._plain
        self._unknown_id = unknown_id(published)
        self.first_ids = () if self.bos_id is None else (self.bos_id,)
        self.notes: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: Path | str) -> "Tokenizer":
        """Return the tokenizer of a tokenizer.json.

        Args:
            path: the file, or the model folder that holds it.

        Raises:
            TokenizerError: the file is missing, damaged, too large, or of a kind that is not read.
            CheckpointError: the folder lacks the file, or the file is a link that leads out of the folder.
        """
        path = Path(path)
        path = find_file(path, "tokenizer.json") if path.is_dir() else path
        try:
            content = read_ordinary(path, TOKENIZER.num_bytes)
        except OSError as error:
            raise TokenizerError(f"{path} cannot be read: {error.strerror}") from error
        try:
            check_json(content, TOKENIZER, "it", TokenizerError)
            published = _parsed(content)
            tokenizer = cls(published, hashlib.sha256(content).hexdigest())
            if not begins_with_bos(path.parent):
                tokenizer.first_ids, tokenizer.notes = first_tokens(published, path.parent)
        except (TokenizerError, VocabularyError, EncodingError) as error:
            raise TokenizerError(f"{path} is not usable: {error}") from None
        return tokenizer

    @property
    def size(self) -> int:
        """The largest token id plus one."""
        return max(self._pieces) + 1

    @cached_property
    def bos_id(self) -> int | None:
        """Id of the beginning-of-sequence token; None if the vocabulary has none."""
        return self.special_id(BOS, "<s>", "<|begin_of_text|>", "<bos>")

    @cached_property
    def eos_id(self) -> int | None:
        """Id of the end-of-sequence token; None if the vocabulary has none."""
        return self.special_id(EOS, "</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>")

    def special_id(self, *spellings: str) -> int | None:
        """Return the id of the first of these spellings that is an added token of the vocabulary; None if none is.

        The token need not be marked as special: published vocabularies do not mark the tokens that begin a turn.
        """
        ids = {content: entry_id for entry_id, content in (self._plain | self._special).items()}
        return next((ids[spelling] for spelling in spellings if spelling in ids), None)

    def encode(self, text: str, parse_special: bool = False) -> list[int]:
        """Return the token ids of a text, without `first_ids`.

        Args:
            text: the text. The spelling of an added token that is not marked as special always gives this token.
            parse_special: whether the spelling of a special token gives this token, or is ordinary text.

        Raises:
            TokenizerError: the text holds a lone surrogate (the message gives its position), the text spells a special
                token that this vocabulary cannot read as text, or the library fails or needs too much time or memory.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise TokenizerError(
                f"character {error.start + 1} of the text is half of a surrogate pair (U+{ord(text[error.start]):04X}),"
                " which is not valid Unicode; remove it"
            ) from None
        try:
            ids = self._encoder.encode(text, parse_special)
        except EncodingError as error:
            raise TokenizerError(f"tokenizer.json cannot encode this text: {error}") from None
        special = {} if parse_special else self._special  # the library's Unigram finds special tokens among its entries
        if spelled := next((special[i] for i in ids if i in special and i != self._unknown_id), None):
            raise TokenizerError(f"this vocabulary cannot read {spelled} as text; change its spelling in the prompt")
        return ids

    def special_in(self, text: str) -> dict[str, int]:
        """Return the special tokens whose spelling occurs in a text: spelling -> token id."""
        return {content: entry_id for entry_id, content in self._special.items() if content and content in text}

    @cached_property
    def turn_ids(self) -> tuple[int, int] | None:
        """Ids of the tokens that begin a user's turn and the answer; None if the vocabulary lacks one of them."""
        user, assistant = self.special_id(USER), self.special_id(ASSISTANT)
        return None if user is None or assistant is None else (user, assistant)

    def encode_turn(self, text: str, parse_special: bool = False) -> list[int]:
        """Return the token ids of a user's turn, followed by the token that begins the answer, without `first_ids`.

        The arguments are those of `encode`.

        Raises:
            TokenizerError: the vocabulary lacks a token that begins a turn, or the text cannot be encoded.
        """
        if self.turn_ids is None:
            raise TokenizerError(
                f"the vocabulary lacks {USER} or {ASSISTANT}, so no question can be put to this model; leave out chat, "
                "and it continues the text as it is"
            )
        user, assistant = self.turn_ids
        return [user, *self.encode(text, parse_special), assistant]

    def piece(self, token_id: int) -> str:
        """Return the entry of the vocabulary for a token id, as a label; empty if there is no entry."""
        return self._pieces.get(token_id, "")

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of a token; empty for a special or unknown token, or for an id without an entry."""
        if token_id in self._special or token_id == self._unknown_id:
            return b""
        if token_id in self._plain and self._bytes_of is from_alphabet:  # its content is text, not bytes
            return self._plain[token_id].encode()
        return self._bytes_of(self._pieces.get(token_id, ""))

    def decode(self, token_ids: list[int]) -> bytes:
        """Return the text of a sequence of tokens, as bytes. The bytes may be invalid UTF-8 (see `invalid_spans`)."""
        return b"".join(self.token_bytes(token_id) for token_id in token_ids)

    def tokens(self, token_ids: list[int], num_prompt: int) -> tuple[tuple[Token, ...], bytes]:
        """Return the tokens of a run, each with its label and its byte span in the text, and the text.

        Args:
            token_ids: ids of the prompt tokens, with BOS, then of the generated tokens.
            num_prompt: number of prompt tokens.
        """
        labelled, start = [], 0
        for index, token_id in enumerate(token_ids):
            end = start + len(self.token_bytes(token_id))
            labelled.append(Token(token_id, self.piece(token_id), start, end, index >= num_prompt))
            start = end
        return tuple(labelled), self.decode(token_ids)


def invalid_spans(text: bytes) -> tuple[tuple[int, int], ...]:
    """Return the byte ranges [start, end) that are not valid UTF-8, for example an incomplete character at the end.

    >>> invalid_spans("é".encode()[:1] + b"a")
    ((0, 1),)
    """
    spans: list[tuple[int, int]] = []
    start = 0
    while start < len(text):
        try:
            text[start:].decode()
            break
        except UnicodeDecodeError as error:
            spans.append((start + error.start, start + error.end))
            start += error.end
    return tuple(spans)


def _parsed(content: bytes) -> Any:
    if content.startswith(LFS_POINTER):
        raise TokenizerError(lfs_refusal())
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"it is not JSON: {first_line(error)}") from None
