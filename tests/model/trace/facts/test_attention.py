import pytest

from model.trace.facts.facts import facts_of
from model.trace.facts.sources import FactError, Sources
from tests.model.trace.facts.hand_made import hand_made

FACTS = facts_of(Sources(hand_made()))


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("heads", (), 2),
        ("attention", (0, 0, 2, 1), 1),
        ("attention_sum", (1, 1, 3), 1),
        ("most_attended", (0, 0, 3), 2),
        ("attention_ahead", (), 0),
        ("habit", ("previous", 0, 0), 1),
        ("habit", ("previous", 1, 1), (1 / 2 + 1 / 3 + 1 / 4) / 3),
        ("habit", ("itself", 0, 1), 1),
        ("habit", ("first", 0, 0), 1 / 3),  # the first query looks at the first token, and is left out
        ("habit_layer", ("first",), 1),
        ("habit_head", ("first",), 0),
        ("habit_layer", ("itself",), 0),
        ("habit_head", ("itself",), 1),
        ("sinks", (1,), 2),
        ("sinks", (0,), 1),
        ("mean_distance", (0, 0), 1),
        ("mean_distance", (1, 0), 2),
        ("mean_distance", (1, 1), (0.5 + 1 + 1.5) / 3),
    ],
)
def test_attention(name: str, arguments: tuple, expected: float) -> None:
    assert FACTS[name](*arguments) == pytest.approx(expected, abs=1e-6)


def test_an_unknown_habit_or_head_is_refused() -> None:
    with pytest.raises(FactError, match="known are itself, previous, first"):
        FACTS["habit"]("next", 0, 0)
    with pytest.raises(FactError, match="no head 2"):
        FACTS["attention"](0, 2, 1, 0)
