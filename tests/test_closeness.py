"""The measure that numeric tests use: relative to the largest number, strict about what is not finite."""

import numpy as np
import pytest
import torch

from tests.closeness import relative_error

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("actual", "expected", "error"),
    [
        ([1.0, 20.0], [1.0, 20.0], 0.0),
        ([1.5, 20.0], [1.0, 20.0], 0.025),
        ([-1.0, NAN, -INF], [-2.0, NAN, -INF], 0.5),
        ([1.0, NAN], [1.0, 2.0], INF),
        ([1.0, 2.0], [1.0, NAN], INF),
        ([INF], [-INF], INF),
        ([0.0], [0.0], 0.0),
        ([], [], 0.0),
    ],
)
def test_error_is_relative_to_the_largest_number(actual: list[float], expected: list[float], error: float) -> None:
    assert relative_error(np.array(actual), torch.tensor(expected)) == error


def test_size_can_be_given() -> None:
    assert relative_error([0.5], [0.0], size=2.0) == 0.25


def test_shapes_must_be_equal() -> None:
    with pytest.raises(AssertionError):
        relative_error([1.0], [[1.0]])
