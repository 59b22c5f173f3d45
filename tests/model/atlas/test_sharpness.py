"""Margins, entropy and gate weights by layer and label."""

import doctest
from pathlib import Path

import numpy as np
import pytest

from model.atlas import sharpness as module
from model.atlas.folder import open_sweep
from model.atlas.schema import LABELS, MARGIN_COLUMNS
from model.atlas.sharpness import entropy, margins, sharpness
from tests.sweeps import sums, write_sweep

COUNTS = np.random.default_rng(0).multinomial(40, [0.5, 0.25, 0.25], (40, 1))
DOMAINS = ["a"] * 25 + ["b"] * 15


def test_examples_hold() -> None:
    assert doctest.testmod(module).failed == 0


def test_entropy_and_its_interval_of_a_load_worked_out_by_hand() -> None:
    """Half the documents go to two experts alike, half to one: shares 3/4 and 1/4, entropy 0.811278 bits of 1."""
    counts_DLE = np.array([[[4, 4]], [[8, 0]]] * 15)
    value, low, high = entropy(counts_DLE, np.full(30, 8))
    assert value == pytest.approx([0.811278], abs=1e-6)
    # A document has -log2 p on average 1.207519 or 0.415037: standard deviation 0.403030, t of 29 degrees 2.04523.
    assert high - low == pytest.approx([2 * 2.04523 * 0.403030 / np.sqrt(30)], rel=1e-4)


def test_median_margin_lies_in_its_bin_by_its_rank() -> None:
    bins = np.zeros((2, 16), int)
    bins[0, [8, 10, 12]] = 1, 2, 1
    near, middle = margins(bins)
    assert near[0] == pytest.approx(0.25)
    assert middle[0] == pytest.approx(10**-2.75)  # half of the bin from 10^-3 to 10^-2.5
    assert np.isnan([near[1], middle[1]]).all()


def test_margins_and_weights_are_added_by_label_and_absent_where_unknown(tmp_path: Path) -> None:
    sweep = open_sweep(write_sweep(tmp_path / "plain", COUNTS, domains=DOMAINS))
    assert set(sharpness(sweep)) == {"documents", "few", "entropy", "entropy_low", "entropy_high"}
    labels = sweep.documents.loc[:, list(LABELS)]
    strata, cells = sums(labels, COUNTS, [1])
    cells = cells.assign(**dict.fromkeys(MARGIN_COLUMNS, 0), weight_sum=0.5 * cells["c"])
    cells["m08"], cells["m12"] = cells["c"] // 2, cells["c"] - cells["c"] // 2
    sweep = open_sweep(write_sweep(tmp_path / "full", COUNTS, domains=DOMAINS, strata=strata, counts=cells))
    result = sharpness(sweep, "domain")
    assert result["gate_weight"].values == pytest.approx(np.full((2, 1, 3), 0.5))
    assert result["near"].values == pytest.approx(np.full((2, 1), 0.5), abs=0.01)
    assert np.isfinite(result["entropy_low"].sel(label="a")).all()
    assert np.isnan(result["entropy_low"].sel(label="b")).all()  # 15 documents
    assert sharpness(sweep)["near"].dims == ("moe_layer",)
