"""Reads the vocabulary of a tokenizer.json, and the bytes that each of its entries stands for.

Two kinds of vocabulary are known:

- Byte-level: each character of an entry stands for one byte (GPT-2's alphabet). Examples are DeepSeek, Qwen, gpt-oss
  and Llama 3.
- SentencePiece: `▁` stands for a space, and `<0xAB>` for the byte AB. Examples are Mixtral, Gemma and Phi-3.

Any other kind is refused, because the bytes of its tokens are not known. Source: byte alphabet of GPT-2's byte-level
BPE; SentencePiece (arXiv 1808.06226), section 3.2; byte fallback of the `tokenizers` library.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

SPACE = "▁"
OTHER_FILES = ("tokenizer.model", "tiktoken.model", "vocab.json")  # other forms of a vocabulary, which are not read
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_INSTEAD = "; give token ids instead of text"
# The steps of a decoder that turn the entries of a SentencePiece vocabulary into text.
_TO_SPACE = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
_STRIP = {"type": "Strip", "content": " "}  # drops the space that the tokenizer itself puts before a text
_JOINING = ({"type": "ByteFallback"}, {"type": "Fuse"})


class VocabularyError(ValueError):
    """The vocabulary of a tokenizer.json is damaged, or of a kind that is not known."""


def byte_alphabet() -> dict[str, int]:
    """Return the alphabet of byte-level vocabularies: printable character -> the byte that it stands for.

    Printable Latin-1 characters stand for their own byte. The characters from U+0100 on stand for the other bytes, in
    order.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}


_ALPHABET = byte_alphabet()


def from_alphabet(entry: str) -> bytes:
    """Return the bytes of an entry of a byte-level vocabulary."""
    return bytes(_ALPHABET[character] for character in entry)


def from_sentencepiece(entry: str) -> bytes:
    r"""Return the bytes of an entry of a SentencePiece vocabulary.

    >>> from_sentencepiece("▁the"), from_sentencepiece("<0x0A>")
    (b' the', b'\n')
    """
    byte = _BYTE.fullmatch(entry)
    return bytes([int(byte[1], 16)]) if byte else entry.replace(SPACE, " ").encode()


def entries(published: Any) -> dict[str, int]:
    """Return the entries of the model of a tokenizer.json, without added tokens: spelling -> token id.

    Raises:
        VocabularyError: the file holds no vocabulary, or an entry is damaged.
    """
    if not isinstance(published, dict) or not isinstance(published.get("model"), dict):
        raise VocabularyError("it holds no model")
    vocabulary = published["model"].get("vocab", {})
    if published["model"].get("type") == "Unigram":
        vocabulary = dict(_numbered(vocabulary))
    if not isinstance(vocabulary, dict):
        raise VocabularyError("its vocabulary is no object")
    if not vocabulary:
        raise VocabularyError("its vocabulary is empty")
    for piece, entry_id in vocabulary.items():
        if not _is_id(entry_id):
            raise VocabularyError(f"entry {piece!r:.80} has the id {entry_id!r:.40}, no whole number")
    return vocabulary


def _numbered(vocabulary: Any) -> Iterator[tuple[str, int]]:
    """Yield the entries of a Unigram model, pairs of a spelling and a log-probability, with their ids."""
    for entry_id, entry in enumerate(vocabulary if isinstance(vocabulary, list) else [vocabulary]):
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
            raise VocabularyError(f"its vocabulary holds {entry!r:.80}, which is no pair of an entry and a number")
        yield entry[0], entry_id


def added_tokens(published: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the added tokens of a tokenizer.json.

    Raises:
        VocabularyError: one of them has no id or no content.
    """
    added = published.get("added_tokens") or []
    for entry in added if isinstance(added, list) else [added]:
        is_entry = isinstance(entry, dict) and _is_id(entry.get("id")) and isinstance(entry.get("content"), str)
        if not is_entry:
            raise VocabularyError(f"added_tokens holds {entry!r:.80}, which has no id and content")
    return added


def unknown_id(published: Mapping[str, Any]) -> int | None:
    """Return the id of the entry that stands for characters without an entry; None if there is none."""
    model = published["model"]
    is_unigram = model.get("type") == "Unigram"
    unknown = model.get("unk_id") if is_unigram else entries(published).get(str(model.get("unk_token")))
    return unknown if _is_id(unknown) else None


def is_sentencepiece(published: Mapping[str, Any]) -> bool:
    """Whether a tokenizer.json holds a SentencePiece vocabulary, as its decoder says."""
    return any(_spells_space(step) for step in _steps(published.get("decoder")))


def spelling(published: Mapping[str, Any], vocabulary: Mapping[str, int]) -> Callable[[str], bytes]:
    """Return the function that gives the bytes of an entry of this vocabulary.

    Args:
        published: the parsed tokenizer.json.
        vocabulary: its entries, as `entries` returns them.

    Raises:
        VocabularyError: the vocabulary is neither byte-level nor a SentencePiece vocabulary.
    """
    kind = published["model"].get("type", "BPE")
    if is_sentencepiece(published) and kind in ("BPE", "Unigram"):
        _check_sentencepiece(published, vocabulary)
        return from_sentencepiece
    if kind != "BPE":
        raise VocabularyError(f"its model is {kind}, only byte-level BPE and SentencePiece are read{_INSTEAD}")
    added = {(entry["content"], entry["id"]) for entry in added_tokens(published)}
    for piece, entry_id in vocabulary.items():
        if (piece, entry_id) not in added and any(character not in _ALPHABET for character in piece):
            raise VocabularyError(
                f"entry {piece!r:.80} is not spelled in bytes; only byte-level BPE and SentencePiece are read{_INSTEAD}"
            )
    return from_alphabet


def no_tokenizer(folder: Path) -> str:
    """Return the message that a folder has no tokenizer.json; it says how to convert another file of the vocabulary."""
    other = next((name for name in OTHER_FILES if (folder / name).is_file()), None)
    if other is None:
        return f"{folder.name} has no tokenizer.json; give token ids instead of text"
    return (
        f"{folder.name} has no tokenizer.json, only {other}; give token ids instead of text, add a published "
        "tokenizer.json, or convert the file and compare ids: transformers does so with the package sentencepiece or "
        "tiktoken, by AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
    )


def _check_sentencepiece(published: Mapping[str, Any], vocabulary: Mapping[str, int]) -> None:
    for step in _steps(published["decoder"]):
        is_known = isinstance(step, dict) and (
            _spells_space(step) or step in _JOINING or _STRIP.items() <= step.items()
        )
        if not is_known:
            name = step.get("type") if isinstance(step, dict) else step
            raise VocabularyError(f"its decoder has the step {name!r:.40}, which is not known here{_INSTEAD}")
    if not any(SPACE in piece for piece in vocabulary):
        cause = "it was saved by a class for another kind of vocabulary"
        raise VocabularyError(f"its decoder turns {SPACE} into a space, but no entry holds {SPACE}: {cause}{_INSTEAD}")


def _spells_space(step: Any) -> bool:
    if not isinstance(step, dict):
        return False
    return step == _TO_SPACE or step.get("type") == "Metaspace" and step.get("replacement") == SPACE


def _steps(decoder: Any) -> list[Any]:
    if not isinstance(decoder, dict) or decoder.get("type") != "Sequence":
        return [] if decoder is None else [decoder]
    steps = decoder.get("decoders")
    return steps if isinstance(steps, list) else [steps]


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 31
