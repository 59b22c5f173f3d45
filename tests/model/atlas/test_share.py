"""Load shares: two fixtures worked out by hand, and the rules for few documents."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from model.atlas.folder import open_sweep
from model.atlas.position import position_share
from model.atlas.schema import LABELS
from model.atlas.share import share, shares
from model.atlas.sums import of_documents
from model.trace.documents import ratio_error
from tests.sweeps import sums, write_sweep


@pytest.mark.parametrize(
    ("c", "n", "expected", "error"),
    [([4, 0, 2], [4, 4, 4], 0.5, 0.288675), ([6, 1, 1, 4], [10, 5, 5, 20], 0.3, 0.106066)],
)
def test_share_and_error_of_documents_worked_out_by_hand(
    c: list[int], n: list[int], expected: float, error: float
) -> None:
    total = of_documents(np.array(c)[:, None, None], np.array(n), np.zeros(len(c), int), 1)[0]
    assert total.share().item() == pytest.approx(expected)
    assert (total.share() * np.sqrt(total.relative_variance())).item() == pytest.approx(error, abs=1e-6)
    assert np.isnan(shares(total)["error"]).all()  # too few documents for an interval


def test_interval_is_that_of_the_documents_and_needs_twenty_that_select_the_expert(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).multinomial(40, [0.1, 0.2, 0.7], (40, 1))
    counts[19:, 0, 1] += counts[19:, 0, 0]
    counts[19:, 0, 0] = 0  # 19 documents at most select expert 0
    sweep = open_sweep(write_sweep(tmp_path, counts, domains=["a"] * 19 + ["b"] * 21))
    result = share(sweep)
    selections = counts[:, 0].sum(0)
    effective = selections**2 / (counts[:, 0] ** 2).sum(0)
    reach = scipy.stats.t.ppf(0.975, effective - 1) * ratio_error(counts[:, 0], sweep.selections_D)
    assert result["low"].values[0, 1:] == pytest.approx((selections / 1600 - reach)[1:], rel=1e-4)
    assert result["high"].values[0, 1:] == pytest.approx((selections / 1600 + reach)[1:], rel=1e-4)
    assert np.isnan(result["low"].values[0, 0])
    assert (result["documents"].item(), bool(result["few"])) == (40, True)
    assert result["ratio"].sum().item() == pytest.approx(3)
    by_domain = share(sweep, "domain")
    assert np.isnan(by_domain["error"].sel(label="a")).all()
    assert np.isfinite(by_domain["error"].sel(label="b", expert=2)).all()


def test_shares_by_token_class_and_by_position(tmp_path: Path) -> None:
    """Two classes of 30 documents: expert 0 has the first one, expert 1 the other. Bucket 2 is positions 2 and 3."""
    counts = np.tile([[[2, 2]]], (30, 1, 1))
    strata, cells = sums(pd.DataFrame(dict.fromkeys(LABELS, [None] * 30), dtype=object), counts, [1])
    both = [
        cells.assign(token_class=name, c=c, c2=c * 2, cn=c * n, docs_hit=30)[cells["expert"].isin(experts)]
        for name, c, n, experts in (("all", 60, 4, [0, 1]), ("digit", 60, 2, [0]), ("word_start", 60, 2, [1]))
    ]
    sizes = [strata.assign(token_class=name, sum_n=n, sum_n2=n * n // 30)
             for name, n in (("all", 120), ("digit", 60), ("word_start", 60))]  # fmt: skip
    positions = pd.DataFrame(
        [{"layer": 1, "expert": int(bucket > 1), "bucket": bucket, "c": c, "c2": c * c // 30, "cn": c * c // 30,
          "n": c, "n2": c * c // 30} for bucket, c in ((0, 30), (1, 30), (2, 60))]
    )  # fmt: skip
    tables = {"strata": pd.concat(sizes), "counts": pd.concat(both), "positions": positions}
    sweep = open_sweep(write_sweep(tmp_path, counts, **tables))
    classes = [share(sweep, token_class=name) for name in ("all", "digit", "word_start")]
    buckets = position_share(sweep)
    assert [each["share"].values[0].tolist() for each in classes] == [[0.5, 0.5], [1, 0], [0, 1]]
    assert [each["documents"].item() for each in classes] == [30, 30, 30]
    assert buckets is not None
    assert buckets["share"].values[:, 0].tolist() == [[1, 0], [1, 0], [0, 1]]
    assert buckets["first"].values.tolist() == [0, 1, 2]
    assert buckets["documents"].values.tolist() == [30, 30, 30]


def test_intervals_hold_the_share_in_95_of_100_corpora_of_correlated_tokens() -> None:
    """Documents have rates of their own, and lengths that differ by a factor of 3 on average."""
    rng, held = np.random.default_rng(0), []
    base = rng.dirichlet(np.full(8, 4.0))

    def drawn(number: int) -> tuple[np.ndarray, np.ndarray]:
        rates = base * np.exp(0.6 * rng.standard_normal((number, 8)))
        return rates / rates.sum(1, keepdims=True), np.exp(rng.normal(5, 0.5, number)).astype(int)

    rates, sizes = drawn(100_000)
    truth = sizes @ rates / sizes.sum()
    for _ in range(200):
        rates, sizes = drawn(150)
        total = of_documents(rng.multinomial(sizes, rates)[:, None], sizes, np.zeros(150, int), 1)[0]
        bounds = shares(total)
        held.append((bounds["low"][0] <= truth) & (truth <= bounds["high"][0]))
    assert 0.93 < np.mean(held) < 0.97


@pytest.mark.parametrize(("documents", "dead"), [(59, False), (61, True)])
def test_an_unused_expert_is_dead_once_three_documents_of_all_are_below_a_tenth_of_its_fair_load(
    documents: int, dead: bool
) -> None:
    """Of two experts, 3 / D falls below 0.1 / 2 at 60 documents of equal length."""
    total = of_documents(np.tile([[[0, 5]]], (documents, 1, 1)), np.full(documents, 5), np.zeros(documents, int), 1)[0]
    assert shares(total)["dead"].tolist() == [[dead, False]]
