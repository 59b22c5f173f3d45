"""Suggested bits against the best of all allocations."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.atlas.plan_bits import WIDTHS, allocate


def error(errors: list[float], bits: tuple[int, ...]) -> float:
    return sum(each * 4.0**-width for each, width in zip(errors, bits, strict=True))


def test_equal_items_get_the_mean_and_a_larger_error_gets_more() -> None:
    assert allocate(np.ones(4), 4).tolist() == [4, 4, 4, 4]
    assert allocate(np.array([4, 1, 1, 1 / 4]), 4).tolist() == [5, 4, 4, 3]  # half a bit for each factor of 2


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=4), st.integers(2, 5))
def test_no_other_allocation_of_the_same_bits_has_less_error(errors: list[float], mean: int) -> None:
    widths = (2, 3, 4, 5)
    found = tuple(allocate(np.array(errors), mean, widths).tolist())
    allowed = [bits for bits in itertools.product(widths, repeat=len(errors)) if sum(bits) <= mean * len(errors)]
    assert found in allowed
    assert error(errors, found) <= min(error(errors, bits) for bits in allowed) * (1 + 1e-9)


def test_a_large_budget_gives_every_item_the_most() -> None:
    assert allocate(np.array([1.0, 0.0]), 99).tolist() == [WIDTHS[-1]] * 2
