"""Token classes: what kind of text each token of a document is; `model/atlas/schema.py` lists the classes."""

import unicodedata

import numpy as np

from model.atlas.schema import NUM_FIRST, TOKEN_CLASSES
from model.checkpoint.tokenizer import Tokenizer

_NUMBER = {name: number for number, name in enumerate(TOKEN_CLASSES)}
CODE = "code"  # the domain whose reserved words are a class
# Reserved words of Python, C, Go, Rust and JavaScript, and their constants.
_RESERVED = """
    and as assert async await break class continue def del elif else except finally for from global if import in is
    lambda nonlocal not or pass raise return try while with yield None True False self
    auto case char const default do double enum extern float goto inline int long register short signed sizeof static
    struct switch typedef union unsigned void volatile
    chan defer fallthrough func go interface map package range select type var nil
    crate dyn fn impl let loop match mod move mut pub ref super trait unsafe use where
    catch debugger delete export extends function instanceof new null this throw typeof undefined
"""
KEYWORDS = frozenset(_RESERVED.split())


class TokenClasses:
    """The classes of the tokens of a vocabulary."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        """Classify each token of the vocabulary by its text; ids without an entry are special."""
        texts = [tokenizer.token_bytes(token_id) for token_id in range(vocab_size)]
        self._class_V = np.array([_NUMBER[_class_of(text)] for text in texts], np.uint8)
        decoded = [text.decode(errors="replace") for text in texts]
        self._is_keyword_V = np.array([text.strip() in KEYWORDS for text in decoded])
        self._starts_V = np.array([text[:1].isalpha() for text in decoded])
        self._ends_V = np.array([text[-1:].isalnum() for text in decoded])

    def of(self, token_ids: np.ndarray, domain: str | None) -> np.ndarray:
        """Return the class of each token of a document, as an index into `TOKEN_CLASSES`.

        Args:
            token_ids: the tokens of the document from its first one.
            domain: label of the document; "code" makes reserved words a class.
        """
        classes = self._class_V[token_ids]
        is_word = classes == _NUMBER["word_start"]
        if domain == CODE:
            classes[is_word & self._is_keyword_V[token_ids]] = _NUMBER["keyword"]
        follows_word = np.concatenate([[False], self._ends_V[token_ids[:-1]]])
        classes[is_word & self._starts_V[token_ids] & follows_word] = _NUMBER["word_inside"]
        first = classes[:NUM_FIRST]
        first[first != _NUMBER["special"]] = _NUMBER["first"]
        return classes


def _class_of(text: bytes) -> str:
    """Return the class of a token by its text alone; a word counts as the start of one."""
    if not text:
        return "special"
    try:
        stripped = text.decode().strip()
    except UnicodeDecodeError:
        return "other_script"  # a part of a character
    if not stripped:
        return "space"
    if stripped.isdigit():
        return "digit"
    letters = [char for char in stripped if unicodedata.category(char)[0] in "LM"]
    if any(not _is_latin(char) for char in letters):
        return "other_script"
    return "word_start" if letters or any(char.isalnum() for char in stripped) else "punctuation"


def _is_latin(char: str) -> bool:
    """Whether a letter or mark belongs to the Latin script: Basic Latin to IPA, its additions, and accents."""
    code = ord(char)
    return code < 0x0370 or 0x1D00 <= code < 0x1F00 or 0x2C60 <= code < 0x2C80 or 0xA720 <= code < 0xA800
