import pytest

from model.trace.facts.facts import facts_of
from model.trace.facts.sources import Sources
from tests.model.trace.facts.hand_made import hand_made

FACTS = facts_of(Sources(hand_made()))


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("experts", (), 8),
        ("experts_per_token", (), 3),
        ("shared_experts", (), 1),
        ("groups", (), 4),
        ("kept_groups", (), 2),
        ("layers", (), 2),
        ("moe_layers", (), 1),
        ("decisions", (), 4),
        ("expert", (1, 1), 2),
        ("expert", (2, 1, 3), 7),
        ("chosen", (1, 1, 6), True),
        ("chosen", (1, 1, 0), False),
        ("weight", (1, 1, 0), 0),
        ("weight", (1, 1, 2), 1.0714286),  # the published example
        ("weight", (2, 1, 5), 0.7 / 1.46 * 2.5),
        ("weight_sum", (1, 1), 2.5),
        ("affinity", (1, 1, 6), 0.3),
        ("affinity_sum", (1, 1), 3.45),
        ("bias", (1, 4), -0.3),
        ("lowest_bias", (1,), 4),
        ("weight_by_affinity", (1, 1, 6), 0.5357143),  # the published example
        ("weight_by_affinity", (1, 1, 0), 0),
        ("biased", (1, 1, 6), 0.7),
        ("weight_if_biased", (1, 1, 6), 0.9722222),  # the published wrong answer
        ("weight_if_biased", (1, 1, 0), 0),
        ("group_of", (5,), 2),
        ("group_kept", (1, 1, 0), False),
        ("groups_used", (1, 1), 2),
        ("groups_used", (2, 1), 2),
        ("same_experts", (1, 2, 1), 1),
        ("same_experts", (0, 3, 1), 3),
        ("experts_used", (1,), 7),
        ("bias_token", (1,), 2),  # E4 with affinity 0.9 lost to E7 with 0.36
        ("bias_loser", (2, 1), 4),
        ("bias_winner", (2, 1), 7),
        ("group_token", (1,), 1),  # E0 with 0.9 is outside; the last selected has 0.5
        ("group_loser", (1, 1), 0),
        ("entry", (1, 1), 0.5),
        ("margin", (1, 1), 0.05),
        ("runner_up", (1, 1), 7),
        ("nearest_tie_token", (1,), 2),  # 0.61 against 0.6
        ("near_tie_share", ("float32",), 0),
        ("near_tie_share", ("bfloat16",), 0.25),
    ],
)
def test_routing(name: str, arguments: tuple, expected: float) -> None:
    assert FACTS[name](*arguments) == pytest.approx(expected, abs=1e-6)
