"""Normalises texts to composed characters and line feeds, without invisible characters.

The joiners U+200C and U+200D stay, because Hindi, Persian and emoji need them.
"""

import re
import unicodedata

_LINE_END = re.compile(r"\r\n?|[\u0085\u2028\u2029]")
_INVISIBLE = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\ufeff]"
)
_TRAILING = re.compile(r"(?<![ \t])[ \t]+(?=\n)")


def normalise(text: str) -> str:
    """Return the text in NFC, with line feeds as line ends and without control and zero-width characters.

    White space at the ends of lines and at both ends of the text is removed too.
    """
    text = _INVISIBLE.sub("", _LINE_END.sub("\n", text))
    text = _TRAILING.sub("", text).strip("\n\t ") if not text.isspace() else ""
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)
