"""Sums over documents: the same from documents and from strata."""

import doctest
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from model.atlas import discovery, sums
from model.atlas.folder import open_sweep
from model.atlas.sums import Sums, by_label, of_all, of_documents
from model.trace.documents import ratio_error
from tests.sweeps import write_sweep

COUNTS = np.random.default_rng(0).multinomial(60, [0.1, 0.2, 0.3, 0.4], (30, 2))
DOMAINS = [["code", "math", None][number % 3] for number in range(30)]
SOURCES = [f"s{number % 4}" for number in range(30)]


def test_examples_hold() -> None:
    assert doctest.testmod(sums).failed + doctest.testmod(discovery).failed == 0


def same(one: Sums, other: Sums) -> None:
    for name, values in vars(one).items():
        assert values.tolist() == getattr(other, name).tolist(), name


def test_sums_of_strata_are_those_of_documents(tmp_path: Path) -> None:
    sweep = open_sweep(write_sweep(tmp_path, COUNTS, domains=DOMAINS, sources=SOURCES))
    same(of_all(sweep), of_documents(COUNTS, sweep.selections_D, np.zeros(30, int), 1)[0])
    labels, by_domain = by_label(sweep, "domain")
    assert labels == ["code", "math"]
    group_D = np.array([["code", "math", None].index(domain) for domain in DOMAINS])
    same(by_domain, of_documents(COUNTS, sweep.selections_D, np.where(group_D == 2, -1, group_D), 2))
    same(by_domain.rest()[0], by_domain[1])
    same(by_domain[0] + by_domain[1], by_domain.total())


@given(
    arrays.arrays(np.int64, (6, 1, 2), elements=st.integers(0, 9)),
    arrays.arrays(np.int64, 6, elements=st.integers(0, 9)),
)
def test_variance_of_the_sums_is_that_of_the_ratio_over_documents(counts: np.ndarray, others: np.ndarray) -> None:
    n_D = counts.sum((1, 2)) + others + 1
    total = of_documents(counts, n_D, np.zeros(6, int), 1)[0]
    error = total.share() * np.sqrt(total.relative_variance())
    expected = np.where(total.c > 0, ratio_error(counts, n_D), np.nan)
    np.testing.assert_allclose(error, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (
            [0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205, 0.212, 0.216],
            [0.01, 0.04, 0.084, 0.084, 0.084, 0.1, 0.105714, 0.216, 0.216, 0.216],
        ),
        ([0.01, 0.02, 0.03, 0.04], [0.04] * 4),
    ],
)
def test_adjusted_p_of_two_tables_worked_out_by_hand(p: list[float], expected: list[float]) -> None:
    assert discovery.adjusted(np.array(p)).round(6).tolist() == expected
