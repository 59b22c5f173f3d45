"""Align the tokens of two traces.

Traces with equal ids are aligned by position. Traces with different ids (of different tokenizers or texts) are aligned
by the bytes that tokens span. In the common beginning of both texts, byte positions count from the first byte; in the
common end, from the last byte. A token whose span does not occur in the other trace stays unaligned. If a trace has no
text, token ids replace the bytes.

    >>> first = [Token(7, "a", 0, 1, False), Token(8, "bc", 1, 3, False)]
    >>> second = [Token(1, "ab", 0, 2, False), Token(2, "c", 2, 3, False)]
    >>> align_tokens(first, b"abc", second, b"abc").pairs.tolist()
    []
"""

import dataclasses
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from model.trace.trace import Token, Trace

BY_POSITION, BY_SPAN, BY_ID = "position", "byte span", "token id"


@dataclasses.dataclass(frozen=True, eq=False)
class Alignment:
    """Pairs of aligned tokens, in the order of the text.

    Attributes:
        how: basis of the alignment: `position`, `byte span` or `token id`.
        pairs: token index in the first and in the second trace, [pair, 2] int64.
        same_before: whether both texts are equal up to the end of the token, [pair] bool.
        only_a: unaligned tokens of the first trace.
        only_b: unaligned tokens of the second trace.
        unknown_ids: number of pairs that are aligned by position alone, because a trace lacks the token's id.
    """

    how: str
    pairs: np.ndarray
    same_before: np.ndarray
    only_a: tuple[int, ...]
    only_b: tuple[int, ...]
    unknown_ids: int = 0


def align(a: Trace, b: Trace) -> Alignment:
    """Return the alignment of the tokens of two traces."""
    return align_tokens(a.tokens, a.text, b.tokens, b.text)


def align_tokens(a: Sequence[Token], text_a: bytes, b: Sequence[Token], text_b: bytes) -> Alignment:
    """Return the alignment of two sequences of tokens, whose spans cover their texts without gap or overlap."""
    ids_a, ids_b = ([token.id for token in tokens] for tokens in (a, b))
    if len(a) == len(b) and all(i == j or -1 in (i, j) for i, j in zip(ids_a, ids_b, strict=True)):
        unknown = sum(-1 in pair for pair in zip(ids_a, ids_b, strict=True))
        places = np.arange(len(a))
        return Alignment(BY_POSITION, np.stack([places, places], 1), np.ones(len(a), bool), (), (), unknown)
    if text_a and text_b:
        size_a, size_b = len(text_a), len(text_b)
        front = _common(text_a, text_b)
        back = min(_common(text_a[::-1], text_b[::-1]), size_a - front, size_b - front)
        ahead = _by_key(_spans(a, 0, 0, front)), _by_key(_spans(b, 0, 0, front))
        behind = _by_key(_spans(a, size_a, size_a - back, size_a)), _by_key(_spans(b, size_b, size_b - back, size_b))
        return _joined(BY_SPAN, len(a), len(b), ahead, behind)
    front = _common(ids_a, ids_b)
    back = min(_common(ids_a[::-1], ids_b[::-1]), len(a) - front, len(b) - front)
    ahead = {index: index for index in range(front)}
    behind = [{-index: len(ids) - index for index in range(1, back + 1)} for ids in (ids_a, ids_b)]
    return _joined(BY_ID, len(a), len(b), (ahead, ahead), (behind[0], behind[1]))


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the length of the common beginning of two sequences."""
    reach = min(len(a), len(b))
    first, second = (np.asarray(memoryview(s) if isinstance(s, bytes) else s, np.int64)[:reach] for s in (a, b))
    differing = np.flatnonzero(first != second)
    return int(differing[0]) if differing.size else reach


def _spans(tokens: Sequence[Token], origin: int, start: int, end: int) -> Iterator[tuple[Hashable, int]]:
    """Yield (key, token index) of the tokens within bytes `start` to `end`; the key is the byte span minus `origin`.

    The key of a token without text also holds the token's name or id.
    """
    for index, token in enumerate(tokens):
        if start <= token.start and token.end <= end:
            name = (token.piece or token.id) if token.start == token.end else None
            yield (token.start - origin, token.end - origin, name), index


def _by_key(entries: Iterator[tuple[Hashable, int]]) -> dict[Hashable, int]:
    """Return token indices by (key, occurrence); repeated keys have the occurrences 0, 1, ..."""
    occurrences: Counter[Hashable] = Counter()
    token_at: dict[Hashable, int] = {}
    for key, index in entries:
        token_at[key, occurrences[key]] = index
        occurrences[key] += 1
    return token_at


def _joined(how: str, num_a: int, num_b: int, ahead: tuple[dict, dict], behind: tuple[dict, dict]) -> Alignment:
    """Return the alignment of tokens with equal keys.

    `ahead` has the tokens of the common beginning by key, `behind` those of the common end, for each trace. The pairs
    of `ahead` take precedence.
    """
    pairs = [(ahead[0][key], ahead[1][key], True) for key in ahead[0].keys() & ahead[1].keys()]
    used_a, used_b = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
    for key in behind[0].keys() & behind[1].keys():
        one, other = behind[0][key], behind[1][key]
        if one not in used_a and other not in used_b:
            pairs.append((one, other, False))
    pairs.sort()
    rest = [tuple(sorted(set(range(num)) - {pair[side] for pair in pairs})) for side, num in ((0, num_a), (1, num_b))]
    places = np.array([pair[:2] for pair in pairs], np.int64).reshape(-1, 2)
    return Alignment(how, places, np.array([pair[2] for pair in pairs], bool), rest[0], rest[1])
