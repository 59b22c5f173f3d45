import doctest
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.trace import agreement
from model.trace.agreement import fair_agreement, jaccard


def every_choice(num_experts: int, top_k: int, num_groups: int, kept: int) -> list[frozenset[int]]:
    """Return every set that a fair router may choose, repeated in proportion to its probability."""
    size = num_experts // num_groups
    chosen = []
    for groups in itertools.combinations(range(num_groups), kept):
        reach = [group * size + place for group in groups for place in range(size)]
        chosen += map(frozenset, itertools.combinations(reach, top_k))
    return chosen


def test_worked_examples() -> None:
    assert doctest.testmod(agreement).failed == 0


def test_jaccard_by_hand() -> None:
    # {1,2,3,4} and {3,4,5,6}: 2 of 6; the same set: 4 of 4; nothing in common; {1,2} within {1,2,3,4}: 2 of 4
    assert jaccard(np.array([2, 4, 0]), 4, 4).tolist() == [1 / 3, 1.0, 0.0]
    assert jaccard(np.array([2]), 2, 4).tolist() == [0.5]


def test_chance_by_hand() -> None:
    # Two of four experts without groups: both the same 1/6, one in common (1 of 3) 4/6, none 1/6.
    assert fair_agreement(4, 2, 2) == pytest.approx((1 / 6 + 4 / 6 / 3, 1 / 6))
    # One of four experts in one of two groups: the same with 1/4, whatever the groups.
    assert fair_agreement(4, 1, 1, 2, 1) == pytest.approx((1 / 4, 1 / 4))
    # Two of four in one of two groups of two: the group is the choice.
    assert fair_agreement(4, 2, 2, 2, 1) == pytest.approx((1 / 2, 1 / 2))


@pytest.mark.parametrize("shape", [(6, 2, 3, 3, 2), (8, 2, 2, 4, 2), (8, 3, 3, 2, 1), (6, 1, 4, 1, 1), (8, 4, 4, 4, 2)])
def test_chance_agrees_with_every_pair_of_choices(shape: tuple[int, int, int, int, int]) -> None:
    num_experts, top_k, other_top_k, num_groups, kept = shape
    mine = every_choice(num_experts, top_k, num_groups, kept)
    theirs = every_choice(num_experts, other_top_k, num_groups, kept)
    pairs = [(len(a & b) / len(a | b), a == b) for a in mine for b in theirs]
    assert fair_agreement(*shape) == pytest.approx(np.mean(pairs, axis=0))


@given(st.integers(1, 4), st.integers(2, 8), st.data())
def test_bounds(num_groups: int, size: int, data: st.DataObject) -> None:
    kept = data.draw(st.integers(1, num_groups))
    first, second = (data.draw(st.integers(1, kept * size)) for _ in range(2))
    found = fair_agreement(num_groups * size, first, second, num_groups, kept)
    assert 0 <= found.equal <= found.jaccard + 1e-12 <= 1 + 2e-12
    assert found.jaccard == pytest.approx(fair_agreement(num_groups * size, second, first, num_groups, kept).jaccard)


@pytest.mark.parametrize("shape", [(8, 5, 2, 4, 2), (8, 2, 2, 3, 2), (8, 0, 0, 1, 1), (8, 2, 2, 2, 3)])
def test_what_no_router_can_choose_is_refused(shape: tuple[int, int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="cannot be drawn"):
        fair_agreement(*shape)
