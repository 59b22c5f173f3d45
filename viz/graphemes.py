"""What is seen as one character: the rules of UAX 29 (extended grapheme clusters) without its tables.

The standard library knows the category of a character but not the property that the rules are written in; categories
stand in for it. Left out are rules for characters that hardly anybody types, such as number signs before digits. In the
browser `Intl.Segmenter` does the same.
"""

from functools import lru_cache
from unicodedata import category

ZERO_WIDTH_JOINER = "\u200d"
SKIN_TONES = "🏻🏼🏽🏾🏿"
# Scripts that stack consonants: where their blocks begin, the places of consonants and of the virama in a block.
STACKING = (0x0900, 0x0980, 0x0A80, 0x0B00, 0x0C00, 0x0D00)
CONSONANTS, VIRAMA = (*range(0x15, 0x3A), *range(0x58, 0x60)), 0x4D
# A non-joiner, a joiner, the vowels of Thai and Lao that follow their consonant, two marks of half-width kana.
EXTENDING = "\u200c\u200d\u0e33\u0eb3\uff9e\uff9f" + SKIN_TONES


@lru_cache(maxsize=4096)
def joins(before: str, character: str) -> bool:
    """Whether a character is seen as one with those before it; `before` is the end of what they are seen as.

    >>> joins("e", "\u0301"), joins("e", "f")
    (True, False)
    """
    if not before or category(before[-1]) in ("Cc", "Cs", "Zl", "Zp"):
        return False
    return (
        _extends(character)
        or _is_joined_picture(before, character)
        or (_is_flag_half(character) and len(before) == 1 and _is_flag_half(before))
        or _is_stacked(before, character)
        or _is_korean_syllable(before[-1], character)
    )


def _extends(character: str) -> bool:
    """Marks, and the letters inside the flag of England and its like."""
    tag = "\U000e0020" <= character <= "\U000e007f"
    return tag or character in EXTENDING or category(character) in ("Mn", "Mc", "Me")


def _is_joined_picture(before: str, character: str) -> bool:
    """Whether a joiner puts two pictures together, the first perhaps with a variant or a skin tone."""
    if not before.endswith(ZERO_WIDTH_JOINER) or category(character) != "So":
        return False
    first = before.rstrip(f"{ZERO_WIDTH_JOINER}\ufe0f{SKIN_TONES}")
    return first != "" and category(first[-1]) == "So"


def _is_stacked(before: str, character: str) -> bool:
    """Whether a virama puts a consonant below or beside the one before it."""
    if not _is_at(character, *CONSONANTS):
        return False
    first = max((place for place, earlier in enumerate(before) if _is_at(earlier, *CONSONANTS)), default=len(before))
    return any(_is_at(mark, VIRAMA) for mark in before[first:])


def _is_at(character: str, *places: int) -> bool:
    block, place = ord(character) & ~0x7F, ord(character) & 0x7F
    return block in STACKING and place in places


def _is_flag_half(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _is_korean_syllable(before: str, character: str) -> bool:
    """Whether a Korean syllable goes on: leading consonants, then vowels, then trailing consonants."""
    if "\u1100" <= before <= "\u115f":
        return "\u1100" <= character <= "\u11a7" or "가" <= character <= "힣"
    whole = "가" <= before <= "힣"
    if "\u1160" <= before <= "\u11a7" or (whole and (ord(before) - ord("가")) % 28 == 0):
        return "\u1160" <= character <= "\u11ff"
    return (whole or "\u11a8" <= before <= "\u11ff") and "\u11a8" <= character <= "\u11ff"
