import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import linear_sum_assignment

from model.trace import renumbering
from model.trace.renumbering import BY_CHOICES, BY_SCORES, best_assignment, find_renumbering


def chosen(rng: np.random.Generator, num_tokens: int, num_experts: int, top_k: int) -> np.ndarray:
    order = np.argsort(rng.random((num_tokens, num_experts)), -1)[:, :top_k]
    mask = np.zeros((num_tokens, num_experts), bool)
    np.put_along_axis(mask, order, True, -1)
    return mask


def test_worked_example() -> None:
    assert doctest.testmod(renumbering).failed == 0


@given(arrays.arrays(np.int64, st.integers(1, 9).map(lambda n: (n, n)), elements=st.integers(-5, 20)))
def test_assignment_is_as_good_as_scipys(profit: np.ndarray) -> None:
    order = best_assignment(profit)
    assert sorted(order.tolist()) == list(range(len(profit)))
    rows, columns = linear_sum_assignment(profit, maximize=True)
    assert profit[np.arange(len(order)), order].sum() == profit[rows, columns].sum()


def test_assignment_of_many_experts() -> None:
    profit = np.random.default_rng(0).normal(size=(128, 128))
    rows, columns = linear_sum_assignment(profit, maximize=True)
    assert best_assignment(profit)[rows].tolist() == columns.tolist()


@given(st.integers(0, 2**32 - 1))
def test_permutation_is_found_from_choices(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, order = chosen(rng, 128, 16, 4), rng.permutation(16)
    while (order == np.arange(16)).sum() > 10:
        order = rng.permutation(16)
    second = np.empty_like(first)
    second[:, order] = first
    found = find_renumbering(first, second)
    assert found is not None
    assert found.order.tolist() == order.tolist()
    assert (found.basis, found.explained, found.unsettled) == (BY_CHOICES, 1.0, 0)
    assert found.as_numbered < found.by_chance + 0.5 < 1.5


def test_permutation_is_found_through_some_rounding() -> None:
    rng = np.random.default_rng(1)
    first, order = chosen(rng, 200, 16, 4), rng.permutation(16)
    second = first[:, np.argsort(order)]
    second[::20] = chosen(rng, 10, 16, 4)
    found = find_renumbering(first, second)
    assert found is not None
    assert found.order.tolist() == order.tolist()
    assert 0.9 < found.explained < 1


def test_scores_settle_experts_that_took_no_token() -> None:
    rng = np.random.default_rng(2)
    scores, order = rng.random((40, 32)), rng.permutation(32)
    first = np.zeros((40, 32), bool)
    first[:, :8] = scores[:, :8] >= np.sort(scores[:, :8], -1)[:, -2:-1]
    by_choice = find_renumbering(first, first[:, np.argsort(order)])
    assert by_choice is not None
    assert by_choice.unsettled == 24
    found = find_renumbering(first, first[:, np.argsort(order)], scores, scores[:, np.argsort(order)])
    assert found is not None
    assert (found.basis, found.order.tolist(), found.unsettled) == (BY_SCORES, order.tolist(), 0)


@pytest.mark.parametrize("num_tokens", [1, 2, 4])
def test_few_tokens_are_not_enough_to_tell(num_tokens: int) -> None:
    rng = np.random.default_rng(3)
    first = chosen(rng, num_tokens, 64, 4)
    assert find_renumbering(first, first[:, rng.permutation(64)]) is None


def test_no_permutation_explains_other_choices() -> None:
    rng = np.random.default_rng(4)
    assert find_renumbering(chosen(rng, 100, 16, 4), chosen(rng, 100, 16, 4)) is None


def test_equal_choices_need_none() -> None:
    same = chosen(np.random.default_rng(5), 100, 16, 4)
    assert find_renumbering(same, same) is None


def test_nothing_chosen() -> None:
    nothing = np.zeros((3, 8), bool)
    assert find_renumbering(nothing, nothing, np.ones((3, 8)), np.ones((3, 8))) is None
    assert find_renumbering(nothing[:0], nothing[:0]) is None


@pytest.mark.parametrize("damage", [np.nan, np.inf, np.finfo(np.float32).max])
def test_scores_of_a_damaged_model_neither_hang_nor_warn(damage: float, recwarn: pytest.WarningsRecorder) -> None:
    rng = np.random.default_rng(6)
    scores, order = rng.random((40, 8)).astype(np.float32), rng.permutation(8)
    first, others = chosen(rng, 40, 8, 2), scores[:, np.argsort(order)].copy()
    others[3, 4] = damage
    found = find_renumbering(first, first[:, np.argsort(order)], scores, others)
    assert found is not None
    assert found.order.tolist() == order.tolist()
    assert recwarn.list == []
