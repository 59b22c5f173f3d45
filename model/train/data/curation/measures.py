"""Measures of text quality. Each takes a `Text` and returns a share from 0 to 1, a count, or a rate per 1,000.

Shares of characters ignore white space at the ends of lines. Each measure of a text without lines is 0. A unit is a
word, or one character of a script without spaces between words (features.py).
"""

import re

import numpy as np

from model.train.data.curation.features import Text

_COMBINING = re.compile(r"[\u0900-\u0903\u093a-\u094d\u0610-\u061a\u064b-\u065f]")
_HTML = (
    "a|b|body|br|div|em|h[1-6]|head|hr|html|i|img|li|meta|ol|p|pre|script|span|strong|style|sub|sup|table|td|th|tr|ul"
)
_TAG = re.compile(
    rf"</[A-Za-z][\w:.-]*\s*>|<(?:{_HTML})\s*/?>|<[A-Za-z][\w:.-]*(?:\s+[\w:.-]+\s*=\s*(?:\"[^\"<]*\"|'[^'<]*'|\w+))+\s*/?>"
    r"|<[A-Za-z][\w:.-]*/>|&(?:[A-Za-z]{2,7}|#\d{2,5}|#x[\dA-Fa-f]{2,5});|<!--|-->|<[?!][A-Za-z][^<>]*>"
)
_MARKDOWN = re.compile(
    r"\{\{[^{}\n]+\}\}|\]\([^()\s]*\)|!\[|<!--|\*\*\S|^>\s|^`[^`\n]+`$|^\|.*\|$|^---$"
    r"|^(?:title|status|category|tags|layout|date|description|aliases):"
)
_LINK = re.compile(r"(?:https?://|www\.)\S+|\]\(\S{1,500}\)")
_NUMBERS = re.compile(r"[-+]?\d[\d.,;:|%eE+\s-]*\d")
_RUN = re.compile(r"[A-Za-z0-9+/=_-]{48,}")
_HEX = re.compile(r"(?:0x)?[0-9a-fA-F]{2,8}[,;:]?")
_FEW_HEX = 24
_FEW_SCANNED = 3
_MIXED = re.compile(r"(?=.*\d)(?=.*[A-Za-z])")
_LOCKED = re.compile(
    r"^(?:resolved \"|integrity sha|version \"|\"?(?:resolved|integrity|checksum|version)\"?\s*[:=]\s*\"|--hash=|h1:"
    r"|source = \"registry)|sha(?:1|256|384|512)-[A-Za-z0-9+/]{20,}"
)
_BOILERPLATE = re.compile(
    r"\b(?:we use cookies|cookie policy|accept all|privacy policy|terms of (?:use|service)|all rights reserved"
    r"|subscribe to our|sign up for|log in|share this|you may also like|related (?:posts|articles)|read more|skip to"
    r"|leave a comment|click here|follow us|advertisement|newsletter|home \|)|class=\"ad-|^©|^copyright \d{4}",
    re.I,
)
_CHANGE = re.compile(
    r"^(?:\W{0,4}v?\d+\.\d+\.\d+\b|[-*+•]\s+(?:\*\*)?(?:deps\b|fix|add|remove|update|bump|perf\b|deprecate|improve|support"
    r"|allow|use |change|refactor|chore\b|feat\b|docs\b|prevent|skip|throw|enable|revert|drop |[\w.-]+@))",
    re.I,
)
# UTF-8 read as Windows-1252: a lead byte, then a continuation byte.
_TAIL = "\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
_MOJIBAKE = re.compile(f"[ÂÃÄÅÎÏÐÑØÙ][{_TAIL}]|[âãäåæçà][{_TAIL}][{_TAIL}]|ï¿½|\ufffd")
_SCANNED = re.compile(r"(?<![\w|<>=/.-])[A-Za-z]?[a-z]*[015|]+[a-z][a-z015|]+(?<!\|)(?![\w|<>=/.(-]\w?)")
_CODE_MARK = re.compile(r"[(){}\[\];,=:!&|?.<>\"'+]")
_LONG_LINE = 240


def characters(text: Text) -> float:
    """Return the number of characters that are not white space."""
    return text.solid


def letters(text: Text) -> float:
    """Return the share of letters and combining marks among the characters that are not white space."""
    marks = 0 if text.text.isascii() else len(_COMBINING.findall(text.text))
    return min(1.0, _share(text.letters + marks, text.solid))


def repeated_lines(text: Text) -> float:
    """Return the share of characters in lines that repeat an earlier line."""
    earlier: set[str] = set()
    repeated = 0
    for line in text.lines:
        repeated += len(line) if line in earlier else 0
        earlier.add(line)
    return _share(repeated, sum(map(len, text.lines)))


def repeated_runs(text: Text) -> float:
    """Return the share of runs of ten units that repeat an earlier run."""
    runs = text.runs(10)
    return _share(len(runs) - len(np.unique(runs)), len(runs))


def markup(text: Text) -> float:
    """Return the share of characters in tags and entities of HTML or XML."""
    return _share(_length(_TAG, text.text), text.solid)


def markdown(text: Text) -> float:
    """Return the share of lines with links, placeholders, emphasis, quotes, tables or front matter of Markdown."""
    return _share(sum(bool(_MARKDOWN.search(line)) for line in text.lines), len(text.lines))


def mojibake(text: Text) -> float:
    """Return the number of wrongly decoded characters per 1,000 characters."""
    return 1000 * _share(len(_MOJIBAKE.findall(text.text)), len(text.text))


def minified(text: Text) -> float:
    """Return the share of punctuation in lines above 240 characters; 0 if these hold less than half of the text."""
    long = [line for line in text.lines if len(line) > _LONG_LINE]
    size = sum(map(len, long))
    if 2 * size < sum(map(len, text.lines)):
        return 0.0
    return _share(sum(len(_CODE_MARK.findall(line)) for line in long), size)


def number_lines(text: Text) -> float:
    """Return the share of characters in lines of only numbers and separators."""
    size = sum(len(line) for line in text.lines if line[0] in "+-0123456789" and _NUMBERS.fullmatch(line))
    return _share(size, sum(map(len, text.lines)))


def encoded(text: Text) -> float:
    """Return the share of characters in runs of at least 48 letters and digits mixed, and in hexadecimal numbers.

    Hexadecimal numbers count only if the text has at least 24, and at least one of them mixes digits and letters.
    """
    words = text.text.split()
    runs = [run for word in words if len(word) >= 48 for run in _RUN.findall(word) if _MIXED.match(run)]
    numbers = [word for word in words if word[0] in "0123456789abcdefABCDEF" and _HEX.fullmatch(word)]
    are_bytes = len(numbers) >= _FEW_HEX and any(_MIXED.match(word) for word in numbers)
    return _share(sum(map(len, runs)) + (sum(map(len, numbers)) if are_bytes else 0), text.solid)


def locked(text: Text) -> float:
    """Return the share of lines with a version, address or checksum of a package."""
    return _share(sum(bool(_LOCKED.search(line)) for line in text.lines), len(text.lines))


def links(text: Text) -> float:
    """Return the share of characters in web addresses."""
    return _share(_length(_LINK, text.text), text.solid)


def boilerplate(text: Text) -> float:
    """Return the share of lines that have at most 120 characters and hold a phrase of web pages.

    The share is 0 if there is only one line of this kind.
    """
    count = sum(len(line) <= 120 and bool(_BOILERPLATE.search(line)) for line in text.lines)
    return _share(count, len(text.lines)) if count > 1 else 0.0


def changes(text: Text) -> float:
    """Return the share of lines that begin like an entry of a change log."""
    return _share(sum(bool(_CHANGE.match(line)) for line in text.lines), len(text.lines))


def scanned(text: Text) -> float:
    """Return the number of distinct words like `h0use`, per 1,000 distinct units; 0 if there are fewer than three.

    These words have a digit or a bar in place of a letter, an error of text recognition.
    """
    words = set(_SCANNED.findall(text.text))
    return 1000 * _share(len(words), len(set(text.units))) if len(words) >= _FEW_SCANNED else 0.0


def _length(pattern: re.Pattern[str], text: str) -> int:
    return sum(match.end() - match.start() for match in pattern.finditer(text))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
