"""Mutual information and the strongest expert, on tables that can be worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from model.train.evaluation.specialisation import counts_by_kind, information, mutual_information, strongest

COUNTS_PLE = arrays.arrays(np.int64, (12, 2, 3), elements=st.integers(1, 9))
KIND_P = np.arange(12) % 4


def test_information_of_a_table_worked_out_by_hand() -> None:
    """Joint 3/8, 1/8 against 1/8, 3/8: 2 x 3/8 ln(3/2) + 2 x 1/8 ln(1/2)."""
    counts_KLE = np.array([[[3, 1]], [[1, 3]]])
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert mutual_information(counts_KLE) == pytest.approx([expected])


@given(COUNTS_PLE)
def test_information_lies_between_zero_and_the_entropy_of_the_kinds(counts_PLE: np.ndarray) -> None:
    counts_KLE = counts_by_kind(counts_PLE, KIND_P)
    share_LK = (counts_KLE.sum(-1) / counts_KLE.sum((0, 2))).T
    entropy_L = -(share_LK * np.log(share_LK)).sum(-1)
    told_L = mutual_information(counts_KLE)
    assert (told_L >= -1e-12).all()
    assert (told_L <= entropy_L + 1e-12).all()


def test_interval_holds_what_was_found_and_control_lies_below() -> None:
    generator = np.random.default_rng(0)
    chance_PE = generator.dirichlet([0.5] * 4, size=2)[np.arange(200) % 2]
    counts_PLE = np.array([generator.multinomial(50, row) for row in chance_PE])[:, None]
    (told,) = information(counts_PLE, np.arange(200) % 2)
    assert told.shuffled < told.low <= told.nats <= told.high
    assert information(counts_PLE, np.arange(200) % 2) == [told]


def test_interval_lies_opposite_to_the_draws() -> None:
    """Of a single draw both quantiles are what it gives, and both bounds lie as far on the other side."""
    counts_PLE = np.array([[[8, 2]], [[3, 7]], [[6, 4]], [[1, 9]]])
    kind_P = np.array([0, 1, 0, 1])
    (told,) = information(counts_PLE, kind_P, draws=1, seed=3)
    picks_P = np.random.default_rng(3).integers(4, size=4)
    (drawn,) = mutual_information(counts_by_kind(counts_PLE[picks_P], kind_P[picks_P]))
    assert told.high == pytest.approx(2 * told.nats - drawn)
    assert told.low == pytest.approx(max(0.0, 2 * told.nats - drawn))
    assert drawn != pytest.approx(told.nats)


def test_strongest_is_used_much_and_more_than_elsewhere() -> None:
    """Kind 0: expert 0 takes 8 of 10 tokens as everywhere; expert 2 takes 5 of 10, where others send it 1 of 10."""
    counts_PLE = np.array([[[8, 7, 5]], [[8, 11, 1]]])
    first, second = strongest(counts_PLE, np.array([10, 10]), np.array([0, 1]), ("maths", "story"), (3,))
    assert first == ("maths", 3, 2, 0.5, 0.1, 10)
    assert second == ("story", 3, 1, 1.1, 0.7, 10)
