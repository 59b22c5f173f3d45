"""Load shares: two fixtures worked out by hand, and the rules for few documents."""

from pathlib import Path

import numpy as np
import pytest

from model.atlas.folder import open_sweep
from model.atlas.share import share, shares
from model.atlas.sums import of_documents
from model.trace.documents import ratio_interval
from tests.sweeps import write_sweep


@pytest.mark.parametrize(
    ("c", "n", "expected", "error"),
    [([4, 0, 2], [4, 4, 4], 0.5, 0.288675), ([6, 1, 1, 4], [10, 5, 5, 20], 0.3, 0.106066)],
)
def test_share_and_error_of_documents_worked_out_by_hand(
    c: list[int], n: list[int], expected: float, error: float
) -> None:
    sums = of_documents(np.array(c)[:, None, None], np.array(n), np.zeros(len(c), int), 1)[0]
    assert sums.share().item() == pytest.approx(expected)
    assert (sums.share() * np.sqrt(sums.relative_variance())).item() == pytest.approx(error, abs=1e-6)
    assert np.isnan(shares(sums)["error"]).all()  # too few documents for an interval


def test_interval_is_that_of_the_documents_and_needs_twenty_that_select_the_expert(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).multinomial(40, [0.1, 0.2, 0.7], (40, 1))
    counts[19:, 0, 1] += counts[19:, 0, 0]
    counts[19:, 0, 0] = 0  # 19 documents at most select expert 0
    sweep = open_sweep(write_sweep(tmp_path, counts, domains=["a"] * 19 + ["b"] * 21))
    result = share(sweep)
    low, high = ratio_interval(counts[:, 0], sweep.selections_D)
    assert result["low"].values[0, 1:] == pytest.approx(low[1:])
    assert result["high"].values[0, 1:] == pytest.approx(high[1:])
    assert np.isnan(result["low"].values[0, 0])
    assert (result["documents"].item(), bool(result["few"])) == (40, True)
    assert result["ratio"].sum().item() == pytest.approx(3)
    by_domain = share(sweep, "domain")
    assert np.isnan(by_domain["error"].sel(label="a")).all()
    assert np.isfinite(by_domain["error"].sel(label="b", expert=2)).all()


@pytest.mark.parametrize(("documents", "dead"), [(59, False), (61, True)])
def test_an_unused_expert_is_dead_once_three_documents_of_all_are_below_a_tenth_of_its_fair_load(
    documents: int, dead: bool
) -> None:
    """Of two experts, 3 / D falls below 0.1 / 2 at 60 documents of equal length."""
    sums = of_documents(np.tile([[[0, 5]]], (documents, 1, 1)), np.full(documents, 5), np.zeros(documents, int), 1)[0]
    assert shares(sums)["dead"].tolist() == [[dead, False]]
