"""Information of expert and label, corrected by shuffles of documents."""

import doctest
import itertools
from pathlib import Path

import numpy as np
import pytest

from model.atlas import information as module
from model.atlas.folder import open_sweep
from model.atlas.information import against, information, informations, shuffled
from tests.sweeps import write_sweep


def test_examples_hold() -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("counts", "plug_in", "chance", "corrected", "reached"),
    [
        ([[4, 0], [4, 0], [0, 4], [0, 4]], 1, 1 / 3, 2 / 3, 2 / 6),
        ([[3, 1], [1, 3], [2, 2], [2, 2]], 0, 0.030377, -0.030377, 1),
    ],
)
def test_correction_over_all_arrangements_worked_out_by_hand(
    counts: list[list[int]], plug_in: float, chance: float, corrected: float, reached: float
) -> None:
    all_ND = np.array(sorted(set(itertools.permutations([0, 0, 1, 1]))))
    counts_DLE = np.array(counts)[:, None]
    assert informations(counts_DLE, all_ND[:1]) == pytest.approx(np.array([[plug_in]]), abs=1e-9)
    result = against(np.array([float(plug_in)]), informations(counts_DLE, all_ND))
    assert result["chance"] == pytest.approx([chance], abs=1e-6)
    assert result["corrected"] == pytest.approx([corrected], abs=1e-6)
    assert result["p"] == pytest.approx([(1 + 6 * reached) / 7])


def test_labels_move_only_within_their_own_kind() -> None:
    label_D, within_D = np.arange(12), np.arange(12) % 3
    mixed_ND = shuffled(label_D, within_D, 50)
    assert (np.sort(mixed_ND, axis=1) == label_D).all()
    assert (mixed_ND % 3 == within_D).all()
    assert len({tuple(row) for row in mixed_ND.tolist()}) == 50


def test_information_of_a_domain_that_follows_from_the_language_vanishes_within_it(tmp_path: Path) -> None:
    """Experts follow the language; books are mostly German, so experts tell of the domain too, but add nothing."""
    rng = np.random.default_rng(0)
    german = rng.random(120) < 0.5
    books = np.where(german, rng.random(120) < 0.8, rng.random(120) < 0.2)
    counts = np.array([rng.multinomial(40, rng.dirichlet([2, 6] if own else [6, 2]), 1) for own in german])
    domains, languages = np.where(books, "books", "web"), np.where(german, "de", "en")
    sweep = open_sweep(write_sweep(tmp_path, counts, domains=list(domains), languages=list(languages)))
    plain, conditional = information(sweep, "domain"), information(sweep, "domain", within="language")
    assert (plain["p"].item(), plain.attrs["documents"], plain.attrs["shuffles"]) == (1 / 201, 120, 200)
    assert plain["corrected"].item() > 0.02
    assert conditional["plug_in"].item() == plain["plug_in"].item()
    assert abs(conditional["corrected"].item()) < 2 * conditional["spread"].item()
    assert conditional["p"].item() > 0.05
    assert conditional["chance"].item() == pytest.approx(plain["plug_in"].item() - conditional["corrected"].item())


def test_fewer_than_twenty_labelled_documents_give_no_corrected_value(tmp_path: Path) -> None:
    counts = np.tile([[[3, 1]]], (30, 1, 1))
    sweep = open_sweep(write_sweep(tmp_path, counts, domains=["a"] * 10 + ["b"] * 9 + [None] * 11))
    result = information(sweep, "domain")
    assert result.attrs["documents"] == 19
    assert result["plug_in"].item() == pytest.approx(0, abs=1e-12)
    assert np.isnan(result["corrected"]).all()
    assert np.isnan(result["p"]).all()
