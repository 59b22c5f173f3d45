import pytest

from model.trace.facts.facts import facts_of
from model.trace.facts.sources import FactError, Sources
from tests.model.trace.facts.hand_made import hand_made

# Loads of E0 to E7: 2, 2, 1, 1, 0, 1, 4, 1.
FACTS = facts_of(Sources(hand_made()))


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("load", (1, 6), 4),
        ("fair_load", (), 1.5),
        ("load_ratio", (1, 6), 4 / 1.5),
        ("busiest", (1,), 6),
        ("max_violation", (1,), 4 / 1.5 - 1),
        ("chance_idle", (), 8 * (5 / 8) ** 4),
        ("chance_idle", (1,), 5),
        ("idle", (1,), 1),
        ("tokens_to_call_idle", (), 11),  # 8 (5/8)^11 = 0.045, and (5/8)^10 gives 0.073
        ("uneven_layers", (), 0),
        ("least_even_layer", (), 1),
        ("share_low", (1, 6), 0.510109),  # Wilson, 4 of 4
        ("share_high", (1, 6), 1),
        ("line_overlap", (1, 2, 1), 1 / 3),  # the first line chose 2, 3, 5, 6, 6, 7, the second 0, 1, 6
        ("line_busiest", (1, 1), 6),
        ("line_max_violation", (1, 1), 8 * 2 / 6 - 1),
    ],
)
def test_load(name: str, arguments: tuple, expected: float) -> None:
    assert FACTS[name](*arguments) == pytest.approx(expected, abs=1e-5)


def test_more_tokens_leave_less_to_chance() -> None:
    few, many = (FACTS["chance_max_violation"](number) for number in (20, 2_000))
    assert many < few / 5
    with pytest.raises(FactError, match="at most 10,000,000"):
        FACTS["chance_idle"](10**9)
