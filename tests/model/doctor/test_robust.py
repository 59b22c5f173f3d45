"""Pairs of nearly parallel rows are those of a plain loop, and bounded."""

import numpy as np

from model.doctor import robust
from model.doctor.robust import near_pairs


def test_pairs_are_those_of_a_plain_loop() -> None:
    rows = np.random.default_rng(0).normal(size=(1100, 3))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = unit @ unit.T
    expected = {(i, j) for i, j in np.argwhere(cosines >= 0.999).tolist() if i < j}
    found = list(near_pairs(rows, 0.999))
    assert expected
    assert {(i, j) for i, j, _ in found} == expected
    assert all(abs(cosine - cosines[i, j]) < 1e-12 for i, j, cosine in found)


def test_equal_rows_give_a_bounded_number_of_pairs() -> None:
    assert len(list(near_pairs(np.ones((2000, 3)), 0.98))) == robust.MOST_PAIRS
