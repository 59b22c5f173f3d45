import pytest

from model.trace.facts.facts import facts_of
from model.trace.facts.sources import FactError, Sources
from tests.model.trace.facts.hand_made import hand_made
from tests.traces import spelling

# "wolf wolf" on the first line, then a number and a fox that two tokens share.
TEXT = facts_of(Sources(spelling(b"wolf", b" w", b"olf\n", b"123", b" 45", b"\xf0\x9f", b"\xa6\x8a")))


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("tokens", (), 8),
        ("text_tokens", (), 7),
        ("text_bytes", (), 20),
        ("characters", (), 17),  # the fox has four bytes
        ("words", (), 4),
        ("bytes_in", ("é",), 2),
        ("position", ("wolf",), 1),
        ("position", ("wolf", 2), 2),
        ("pieces", ("wolf", 1), 1),
        ("pieces", (" wolf", 1), 2),
        ("pieces", ("🦊", 1), 2),
        ("token_text", (3,), "olf\n"),
        ("token_text", (6,), "\ufffd"),
        ("most_digits", (), 3),
        ("line_tokens", (1,), 3),
        ("line_tokens", (2,), 4),
        ("line_characters", (1,), 9),
        ("line_bytes", (2,), 10),
        ("longest_line", (), 2),
    ],
)
def test_text(name: str, arguments: tuple, expected: object) -> None:
    assert TEXT[name](*arguments) == expected


def test_two_tokens_have_the_same_id_only_if_they_are_the_same_entry() -> None:
    trace = hand_made()
    facts = facts_of(Sources(trace))
    assert facts["token_id"](1) == trace.data["token_id"].values[1]


def test_surprisal_is_in_bits() -> None:
    facts = facts_of(Sources(hand_made()))  # probabilities: unknown, 1/8, 1/2, 1/32
    assert facts["surprisal"](1) == pytest.approx(3)
    assert facts["most_surprising"]() == 3
    assert facts["mean_surprisal"](0, 2) == pytest.approx(2)
    with pytest.raises(FactError, match="no earlier token"):
        facts["surprisal"](0)
