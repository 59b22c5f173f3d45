"""The checks of lift: shuffled labels call nothing, also where tokens are correlated, and halves of a corpus agree."""

from pathlib import Path

import numpy as np
import pytest

from model.atlas.differences import differences
from model.atlas.folder import Sweep, open_sweep
from model.atlas.information import information
from model.atlas.lift import specialists
from model.atlas.null import null, split_half
from model.atlas.share import share
from model.atlas.sharpness import sharpness
from tests.sweeps import write_sweep


def correlated(folder: Path, own: float) -> Sweep:
    """A corpus of 240 documents of two layers of 16 experts; rates of documents vary by a factor of about 3.

    Documents of the five labels have rates of their own with the weight `own`. The last label has 24 documents.
    """
    rng = np.random.default_rng(1)
    label_D = np.repeat(np.arange(5), [54, 54, 54, 54, 24])
    logits = 1.2 * rng.standard_normal((240, 2, 16)) + own * rng.standard_normal((5, 2, 16))[label_D]
    rates = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    sizes = rng.integers(20, 400, 240)
    counts = np.array([[rng.multinomial(size, row) for row in rate] for size, rate in zip(sizes, rates, strict=True)])
    return open_sweep(write_sweep(folder, counts, domains=[f"d{label}" for label in label_D]))


def test_shuffled_labels_call_at_most_5_percent_and_hardly_any_shuffle_calls_a_cell(tmp_path: Path) -> None:
    """The stricter of two bars: in at most 5 % of the shuffles is anything called, whatever the number of cells."""
    result = null(correlated(tmp_path, own=1.0), "domain", draws=50)
    assert result.sizes["shuffle"] == 50
    assert (result["tests"] >= 128).all()  # all labels but the smallest have twenty hits everywhere
    assert result.attrs["false_calls"] <= 0.001
    assert result.attrs["any"] <= 0.05
    assert (result["calls"] <= result["beyond_chance"]).all()


def test_halves_agree_only_where_labels_differ(tmp_path: Path) -> None:
    with_labels = split_half(correlated(tmp_path / "a", own=1.0), "domain")
    without = split_half(correlated(tmp_path / "b", own=0.0), "domain")
    r = with_labels["spearman"].values
    assert r.mean() > 0.8
    assert with_labels["reliability"].values == pytest.approx(2 * r / (1 + r))
    assert abs(without["spearman"].values.mean()) < 0.15
    assert with_labels["cells"].max() <= 2 * 4 * 16  # halves of the smallest label have too few documents


def test_a_corpus_too_small_for_any_test_has_no_calls_and_no_reliability(tmp_path: Path) -> None:
    sweep = open_sweep(write_sweep(tmp_path, np.ones((10, 1, 2), int), domains=["a", "b"] * 5))
    assert null(sweep, "domain").attrs["false_calls"] == 0
    assert np.isnan(split_half(sweep, "domain")["reliability"]).all()


def test_documents_without_labels_give_empty_results_and_no_error(tmp_path: Path) -> None:
    sweep = open_sweep(write_sweep(tmp_path, np.full((30, 2, 4), 5)))
    assert null(sweep, "domain")["tests"].sum() == 0
    assert np.isnan(split_half(sweep, "domain")["spearman"]).all()
    assert information(sweep, "domain").attrs["documents"] == 0
    assert specialists(sweep, "domain").attrs["unlabelled"] == 30
    assert share(sweep, "domain").sizes["label"] == sharpness(sweep, "domain").sizes["label"] == 0
    assert differences(sweep, sweep, "domain").sizes["label"] == 0
