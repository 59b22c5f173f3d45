"""Experts that are alike: correlations by hand and by simulation, and a planted duplicate."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from model.atlas.folder import open_sweep
from model.atlas.likeness import correlations, likeness, residuals
from tests.sweeps import write_sweep


def test_residuals_of_two_strata_worked_out_by_hand() -> None:
    """The first stratum has the share 5 / 8, the second 1 / 4; four documents of 4 selections."""
    values = residuals(np.array([[4], [1], [2], [0]]), np.full(4, 4), np.array([0, 0, 1, 1]))
    assert values[:, 0] == pytest.approx(np.array([1.5, -1.5, 1.0, -1.0]) / 2)


def test_interval_of_a_correlation_holds_it_in_95_of_100_samples() -> None:
    rng, held, r = np.random.default_rng(0), 0, np.zeros((2, 2))
    for _ in range(300):
        shared, own = rng.standard_normal((200, 1)), rng.standard_normal((200, 2))
        r, low, high = correlations(np.sqrt(0.7) * shared + np.sqrt(0.3) * own)
        held += bool(low[0, 1] <= 0.7 <= high[0, 1])
    assert 0.92 < held / 300 < 0.98
    assert r[0, 0] == pytest.approx(1)


def planted(folder: Path, documents: int = 120) -> xr.Dataset:
    """Experts of two languages, each with some of its own; expert 5 has the rates of expert 2."""
    rng = np.random.default_rng(0)
    language = np.arange(documents) % 2
    logits = rng.standard_normal((documents, 6)) + 3 * np.array([[1, 1, 1, 0, 0, 1], [0, 0, 0, 1, 1, 0]])[language]
    logits[:, 5] = logits[:, 2]
    rates = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    counts = np.array([rng.multinomial(400, row) for row in rates])[:, None]
    tokens = pd.DataFrame([
        {"layer": 1, "expert": expert, "token_id": token, "text": "a", "c": c, "docs": 1, "total": 9}
        for expert, token, c in ((2, 7, 30), (2, 8, 40), (5, 7, 32), (5, 8, 38), (0, 9, 5))
    ])  # fmt: skip
    names = np.array(["de", "en"])[language].tolist()
    return likeness(open_sweep(write_sweep(folder, counts, languages=names, tokens=tokens)))


def test_a_planted_duplicate_is_found_and_nothing_else(tmp_path: Path) -> None:
    result = planted(tmp_path)
    assert np.argwhere(result["alike"].values).tolist() == [[0, 2, 5], [0, 5, 2]]
    assert result["tokens"].values[0, 2, 5] == pytest.approx(2480 / (50 * np.sqrt(32**2 + 38**2)))
    assert result["tokens"].values[0, 0, 2] == 0
    assert abs(result["similarity"].values[0, 0, 1]) < 0.5  # of one language, and otherwise unlike
    assert np.isnan(np.diagonal(result["similarity"].values[0])).all()


def test_fewer_than_twenty_documents_have_no_similarity(tmp_path: Path) -> None:
    result = planted(tmp_path, documents=18)
    assert np.isnan(result["similarity"]).all()
    assert not result["alike"].any()
