"""Corrected information and the strongest expert, on tables that can be worked out by hand."""

import math

import numpy as np
import pytest

from model.trace.information import counts_by_label, mutual_information
from model.train.evaluation.specialisation import information, strongest


def test_interval_holds_what_was_found_and_control_lies_below() -> None:
    generator = np.random.default_rng(0)
    chance_DE = generator.dirichlet([0.5] * 4, size=2)[np.arange(200) % 2]
    counts_DLE = np.array([generator.multinomial(50, row) for row in chance_DE])[:, None]
    (told,) = information(counts_DLE, np.arange(200) % 2)
    assert told.shuffled < told.low <= told.corrected <= told.high
    assert (told.corrected, told.documents) == (told.nats - told.shuffled, 200)
    assert told.p == 1 / 201
    assert information(counts_DLE, np.arange(200) % 2) == [told]


def test_interval_is_the_spread_of_bootstrap_samples_around_the_corrected_value() -> None:
    counts_DLE = np.random.default_rng(0).integers(0, 9, (20, 1, 2))
    kind_D = np.arange(20) % 2
    (told,) = information(counts_DLE, kind_D, draws=2, seed=3)
    generator, drawn = np.random.default_rng(3), []
    for _ in range(2):
        picks_D = generator.integers(20, size=20)
        drawn.append(float(mutual_information(counts_by_label(counts_DLE[picks_D], kind_D[picks_D]))[0]))
        generator.permutation(kind_D)
    reach = 2.093 * abs(drawn[0] - drawn[1]) / math.sqrt(2)
    assert (told.low, told.high) == pytest.approx((told.corrected - reach, told.corrected + reach), rel=1e-3)


@pytest.mark.parametrize(
    ("counts", "plug_in", "by_chance", "p"),
    [([[4, 0], [4, 0], [0, 4], [0, 4]], 1, 1 / 3, 2 / 6), ([[3, 1], [1, 3], [2, 2], [2, 2]], 0, 0.030377, 1)],
)
def test_value_by_chance_is_the_mean_over_arrangements_of_the_documents(
    counts: list[list[int]], plug_in: float, by_chance: float, p: float
) -> None:
    """In bits, over all six arrangements of two documents of each kind."""
    (told,) = information(np.array(counts)[:, None], np.array([0, 0, 1, 1]), draws=4000)
    assert told.nats / math.log(2) == pytest.approx(plug_in, abs=1e-12)
    assert told.shuffled / math.log(2) == pytest.approx(by_chance, abs=0.03)
    assert told.corrected / math.log(2) == pytest.approx(plug_in - by_chance, abs=0.03)
    assert told.p == pytest.approx(p, abs=0.03)
    assert math.isnan(told.low)  # four documents give no interval


def test_experts_that_know_nothing_of_the_kinds_have_a_corrected_value_around_zero() -> None:
    """Each document has experts of its own, so the plug-in value is far above 0 although the kinds are random."""
    generator = np.random.default_rng(0)
    shares_DE = generator.dirichlet([0.3] * 8, size=60)
    counts_DLE = np.array([generator.multinomial(200, row) for row in shares_DE])[:, None]
    told = [information(counts_DLE, generator.permutation(np.arange(60) % 3), 100)[0] for _ in range(40)]
    assert np.mean([one.nats for one in told]) > 0.02
    assert abs(np.mean([one.corrected for one in told])) < 0.01
    assert np.mean([one.p <= 0.05 for one in told]) <= 0.15


def test_strongest_is_used_much_and_more_than_elsewhere() -> None:
    """Kind 0: expert 0 takes 8 of 10 tokens as everywhere; expert 2 takes 5 of 10, where others send it 1 of 10."""
    counts_DLE = np.array([[[8, 7, 5]], [[8, 11, 1]]])
    first, second = strongest(counts_DLE, np.array([10, 10]), np.array([0, 1]), ("maths", "story"), (3,))
    assert (first[:4], first[6:]) == (("maths", 3, 2, 0.5), (0.1, 10, 1))
    assert (second[:4], second[6:]) == (("story", 3, 1, 1.1), (0.7, 10, 1))
    assert all(math.isnan(bound) for row in (first, second) for bound in (row.low, row.high))
