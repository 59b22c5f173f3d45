"""Lift by label: two fixtures worked out by hand, planted specialists, and every reason to call none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from model.atlas.folder import open_sweep
from model.atlas.lift import REASONS, lift, specialists
from model.atlas.sums import Sums, of_documents
from model.trace.documents import two_sided_p
from tests.sweeps import write_sweep


def one(c: list[int], n: list[int]) -> Sums:
    return of_documents(np.array(c)[:, None, None], np.array(n), np.zeros(len(c), int), 1)[0]


@pytest.mark.parametrize(
    ("group", "rest", "expected", "error", "p"),
    [
        (([3, 5], [10, 10]), ([1, 3], [10, 10]), 1.0, 0.806491, 0.214998),
        (([4, 4, 4], [10, 10, 10]), ([1, 2, 3], [20, 20, 20]), 2.0, 0.416470, 1.5688e-6),
    ],
)
def test_lift_of_documents_worked_out_by_hand(group: Any, rest: Any, expected: float, error: float, p: float) -> None:
    result = lift(one(*group), one(*rest))
    assert result.lift.item() == pytest.approx(expected)
    assert result.error.item() == pytest.approx(error, abs=1e-6)
    assert two_sided_p(result.lift / result.error).item() == pytest.approx(p, rel=1e-4)


def test_degrees_of_freedom_are_those_of_welch() -> None:
    """A rest of 1, 2 and 3 selections has 36 / 14 effective documents; two documents give one degree of freedom.

    In the first case the variance of the group is 0. In the second the relative variances are 1/8 and 1/2 / 2.
    """
    assert lift(one([4, 4, 4], [10] * 3), one([1, 2, 3], [20] * 3)).degrees.item() == pytest.approx(36 / 14 - 1)
    expected = (1 / 8 + 1 / 2) ** 2 / ((1 / 8) ** 2 / 1 + (1 / 2) ** 2 / 1)
    assert lift(one([3, 5], [10] * 2), one([1, 3], [10] * 2)).degrees.item() == pytest.approx(expected)


def test_an_expert_without_a_selection_has_a_finite_lift_of_large_error() -> None:
    """Half a document of two selections among 100: 0.4 over 0.01, and variance 2 of the count 1/2."""
    result = lift(one([2, 2], [5, 5]), one([0, 0], [50, 50]))
    assert result.lift.item() == pytest.approx(np.log2(40))
    assert result.error.item() == pytest.approx(np.sqrt(2) / np.log(2))


def planted(folder: Path, documents: int, boost: float = 6.0, sources: int = 3) -> xr.Dataset:
    """Specialists of documents with rates of their own; in layer 2 the label "b" selects expert 3 more often."""
    rng, names = np.random.default_rng(0), ("a", "b", "c")
    domains = [names[number % 3] for number in range(3 * documents)]
    rates = rng.dirichlet(np.full(8, 5.0), (len(domains), 2))
    rates[1::3, 1, 3] *= boost
    counts = np.array([[rng.multinomial(50, row / row.sum()) for row in document] for document in rates])
    of_source = [f"{domain}{number // 3 % sources}" for number, domain in enumerate(domains)]
    return specialists(open_sweep(write_sweep(folder, counts, domains=domains, sources=of_source)), "domain")


def test_a_planted_specialist_survives_and_nothing_else(tmp_path: Path) -> None:
    result = planted(tmp_path, 70)
    survives = result["survives"].values
    assert np.argwhere(survives & (result["lift"].values > 0)).tolist() == [[1, 1, 3]]
    assert set(np.argwhere(survives)[:, 2].tolist()) == {3}  # the other labels have less of it than "b" and one of them
    cell = result.sel(label="b", moe_layer=2, expert=3)
    assert 1 < cell["low"] < cell["lift"] < cell["high"]
    assert 1 <= cell["weakest"] < cell["lift"]
    assert np.isfinite(result["weakest"].values[survives]).all()
    assert (result.attrs["tests"], result["sources"].values.tolist()) == (48, [3, 3, 3])


def reason(result: xr.Dataset) -> str:
    return REASONS[result["reason"].sel(label="b", moe_layer=2, expert=3).item()]


def test_every_reason_is_stated(tmp_path: Path) -> None:
    assert reason(planted(tmp_path / "a", 19)) == "too few documents"
    assert reason(planted(tmp_path / "b", 70, boost=0.01)) == "survives"  # the label avoids the expert
    assert reason(planted(tmp_path / "c", 70, boost=1)) == "not beyond chance"
    assert reason(planted(tmp_path / "d", 70, boost=1.6)) == "small"
    assert reason(planted(tmp_path / "e", 70, sources=1)) == "depends on one source"
