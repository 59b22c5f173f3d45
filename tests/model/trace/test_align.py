import doctest
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.trace import align
from model.trace.align import BY_ID, BY_POSITION, BY_SPAN, Alignment, align_tokens
from model.trace.trace import Token

BOS = "<BOS>"


def tokens(*spelled: bytes | str, ids: Sequence[int] | None = None) -> tuple[list[Token], bytes]:
    """Tokens of these bytes; a string is a special token. Without `ids` each spelling is its own id."""
    made, text = [], b""
    for place, part in enumerate(spelled):
        number = ids[place] if ids else zlib.crc32(repr(part).encode()) % 2**31
        size = len(part) if isinstance(part, bytes) else 0
        name = part if isinstance(part, str) else part.decode("latin-1")
        made.append(Token(number, name, len(text), len(text) + size, False))
        text += part if isinstance(part, bytes) else b""
    return made, text


def aligned(first: tuple[list[Token], bytes], second: tuple[list[Token], bytes]) -> Alignment:
    return align_tokens(*first, *second)


def test_worked_example() -> None:
    assert doctest.testmod(align).failed == 0


def test_equal_ids_are_aligned_by_position() -> None:
    same = tokens(BOS, b"a", b"a", ids=[0, 5, 5])
    found = aligned(same, same)
    assert found.how == BY_POSITION
    assert found.pairs.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert found.same_before.all()
    assert (found.only_a, found.only_b, found.unknown_ids) == ((), (), 0)


def test_unknown_ids_are_aligned_by_place_and_counted() -> None:
    found = aligned(tokens(b"a", b"b", b"c", ids=[5, -1, 7]), (tokens("", "", "", ids=[5, 6, -1])[0], b""))
    assert (found.how, len(found.pairs), found.unknown_ids) == (BY_POSITION, 3, 2)


def test_other_tokenisers_are_aligned_by_equal_spans() -> None:
    found = aligned(tokens(BOS, b"Once", b" up", b"on", b" a"), tokens(BOS, b"On", b"ce", b" upon", b" a"))
    assert found.how == BY_SPAN
    assert found.pairs.tolist() == [[0, 0], [4, 4]]
    assert (found.only_a, found.only_b) == ((1, 2, 3), (1, 2, 3))
    assert found.same_before.all()


def test_characters_split_across_tokens_are_aligned_by_bytes() -> None:
    """The euro sign is E2 82 AC: whole in one vocabulary, in pieces in the other."""
    euro = "€".encode()
    whole, split = tokens(b"x", euro, b"y"), tokens(b"x", euro[:1], euro[1:], b"y")
    found = aligned(whole, split)
    assert found.pairs.tolist() == [[0, 0], [2, 3]]
    assert (found.only_a, found.only_b) == ((1,), (1, 2))
    otherwise = tokens(b"x" + euro[:2], euro[2:], b"y")
    assert aligned(split, otherwise).pairs.tolist() == [[3, 2]]


def test_bytes_of_no_character_are_aligned_too() -> None:
    found = aligned(tokens(b"\xff", b"\xfe\x80", b"a"), tokens(b"\xff", b"\xfe", b"\x80", b"a"))
    assert found.pairs.tolist() == [[0, 0], [2, 3]]


def test_texts_that_part_are_aligned_before_and_after() -> None:
    found = aligned(tokens(b"The", b" wolf", b" saw", b" it"), tokens(b"The", b" cat", b" not", b" saw", b" it"))
    assert found.pairs.tolist() == [[0, 0], [2, 3], [3, 4]]
    assert found.same_before.tolist() == [True, False, False]
    assert (found.only_a, found.only_b) == ((1,), (1, 2))


def test_repeated_text_is_not_used_twice() -> None:
    """aaa against aa: two tokens in common, whichever end they are counted from."""
    found = aligned(tokens(b"a", b"a", b"a"), tokens(b"a", b"a"))
    assert found.pairs.tolist() == [[0, 0], [1, 1]]
    assert (found.only_a, found.only_b) == ((2,), ())


def test_special_tokens_are_aligned_by_place_and_name() -> None:
    one = tokens(BOS, b"a", "<user>", "<user>", b"b")
    assert aligned(one, tokens("<s>", b"a", "<user>", b"b")).pairs.tolist() == [[1, 1], [2, 2], [4, 3]]


def test_traces_without_text_are_aligned_by_id() -> None:
    first, second = (tokens(*[""] * n, ids=ids) for n, ids in ((4, [5, 6, 7, 9]), (5, [5, 6, 8, 8, 9])))
    found = aligned(first, second)
    assert found.how == BY_ID
    assert found.pairs.tolist() == [[0, 0], [1, 1], [3, 4]]
    assert found.same_before.tolist() == [True, True, False]


def test_nothing_in_common() -> None:
    found = aligned(tokens(b"a"), tokens(b"b", b"c"))
    assert found.pairs.shape == (0, 2)
    assert (found.only_a, found.only_b) == ((0,), (0, 1))


PARTS = st.lists(st.sampled_from([b"a", b"ab", b"b", "é".encode(), b"\xc3", b"\xa9", BOS]), max_size=8)


@given(PARTS, PARTS)
def test_what_holds_of_any_alignment(first: list[bytes | str], second: list[bytes | str]) -> None:
    one, other = tokens(*first), tokens(*second)
    there, back = aligned(one, other), aligned(other, one)
    assert sorted(map(tuple, there.pairs[:, ::-1].tolist())) == sorted(map(tuple, back.pairs.tolist()))
    for side, (made, only) in enumerate(((one[0], there.only_a), (other[0], there.only_b))):
        used = there.pairs[:, side].tolist()
        assert sorted([*used, *only]) == list(range(len(made)))
        assert used == sorted(used)
    for a, b in there.pairs.tolist():
        spans = [text[token.start : token.end] for (made, text), token in ((one, one[0][a]), (other, other[0][b]))]
        assert spans[0] == spans[1]
    for (a, b), same in zip(there.pairs.tolist(), there.same_before.tolist(), strict=True):
        if same:
            assert one[1][: one[0][a].end] == other[1][: other[0][b].end]


@given(PARTS)
def test_a_trace_with_itself(parts: list[bytes | str]) -> None:
    found = aligned(tokens(*parts), tokens(*parts))
    np.testing.assert_array_equal(found.pairs[:, 0], np.arange(len(parts)))
    np.testing.assert_array_equal(found.pairs[:, 1], np.arange(len(parts)))


@pytest.mark.parametrize("size", [50_000])
def test_long_texts_are_quick(size: int) -> None:
    one, other = tokens(*[b"ab"] * size), tokens(*[b"a", b"b"] * size)
    assert len(aligned(one, other).pairs) == 0
