"""Intervals over documents, by hand and by simulation."""

import doctest

import numpy as np
import pytest
import scipy.stats

from model.trace import documents


def test_examples_hold() -> None:
    assert doctest.testmod(documents).failed == 0


def test_fewer_than_twenty_documents_have_no_interval() -> None:
    low, high = documents.ratio_interval(np.ones((19, 2)), np.full(19, 2))
    assert np.isnan(low).all()
    assert np.isnan(high).all()


@pytest.mark.parametrize("degrees", [(19, 2.0930), (59, 2.0010), (120, 1.9799)])  # of a table of Student's t
def test_quantiles_are_those_of_the_table(degrees: tuple[int, float]) -> None:
    assert documents.t_quantile(0.975, degrees[0]) == pytest.approx(degrees[1], abs=1e-4)


def test_interval_holds_the_ratio_in_95_of_100_corpora_whose_documents_differ() -> None:
    """Tokens of a document share its rate, so an interval over tokens would be several times too narrow."""
    rng, held, narrow = np.random.default_rng(0), 0, 0
    for _ in range(2000):
        rates, sizes = rng.beta(2, 6, 60), rng.integers(50, 400, 60)
        parts = rng.binomial(sizes, rates)
        low, high = documents.ratio_interval(parts, sizes)
        held += bool(low <= 0.25 <= high)
        share = parts.sum() / sizes.sum()
        narrow += bool(abs(share - 0.25) <= 1.96 * np.sqrt(share * (1 - share) / sizes.sum()))
    assert 0.93 < held / 2000 < 0.965
    assert narrow / 2000 < 0.4


@pytest.mark.parametrize("degrees", [19, 24.5, 60, 1000])
def test_p_of_student_is_that_of_scipy(degrees: float) -> None:
    values = np.array([-20, -2, 0, 0.01, 1, 3, 10, 30])
    expected = 2 * scipy.stats.t.sf(np.abs(values), degrees)
    assert documents.two_sided_p(values, degrees) == pytest.approx(expected, rel=1e-3)
    assert documents.two_sided_p(values) == pytest.approx(2 * scipy.stats.norm.sf(np.abs(values)), rel=1e-9)
