"""Mutual information, on a table that can be worked out by hand and by its bounds."""

import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from model.trace import information
from model.trace.information import counts_by_label, mutual_information

COUNTS_DLE = arrays.arrays(np.int64, (12, 2, 3), elements=st.integers(1, 9))
LABEL_D = np.arange(12) % 4


def test_examples_hold() -> None:
    assert doctest.testmod(information).failed == 0


def test_information_of_a_table_worked_out_by_hand() -> None:
    """Joint 3/8, 1/8 against 1/8, 3/8: 2 x 3/8 ln(3/2) + 2 x 1/8 ln(1/2)."""
    counts_KLE = np.array([[[3, 1]], [[1, 3]]])
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert mutual_information(counts_KLE) == pytest.approx([expected])


@given(COUNTS_DLE)
def test_information_lies_between_zero_and_the_entropy_of_the_labels(counts_DLE: np.ndarray) -> None:
    counts_KLE = counts_by_label(counts_DLE, LABEL_D)
    share_LK = (counts_KLE.sum(-1) / counts_KLE.sum((0, 2))).T
    entropy_L = -(share_LK * np.log(share_LK)).sum(-1)
    told_L = mutual_information(counts_KLE)
    assert (told_L >= -1e-12).all()
    assert (told_L <= entropy_L + 1e-12).all()
