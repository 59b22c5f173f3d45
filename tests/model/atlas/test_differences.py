"""Two sweeps: what moved, by document where both have the same documents; and the reasons to refuse."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.atlas.differences import differences, refusal
from model.atlas.errors import AtlasError
from model.atlas.folder import Sweep, open_sweep
from tests.sweeps import POLICY, write_sweep

RATES = np.random.default_rng(0).dirichlet([4] * 6, 100)
DOMAINS = ["a", "b"] * 50


def drawn(seed: int, boost: float = 1.0, documents: int = 100) -> np.ndarray:
    """Counts of documents with rates of their own, and expert 4 selected `boost` times as often."""
    rates = RATES[:documents] * np.where(np.arange(6) == 4, boost, 1)
    rng = np.random.default_rng(seed)
    return np.array([rng.multinomial(80, row / row.sum()) for row in rates])[:, None]


def sweep(folder: Path, counts: np.ndarray, **fields: Any) -> Sweep:
    return open_sweep(write_sweep(folder, counts, domains=DOMAINS[: len(counts)], **fields))


def test_a_move_of_the_same_documents_is_found_and_nothing_else(tmp_path: Path) -> None:
    before, after = sweep(tmp_path / "a", drawn(1)), sweep(tmp_path / "b", drawn(2, boost=1.4))
    result = differences(before, after)
    assert (result.attrs["paired"], result.attrs["shared"]) == (True, 100)
    assert np.flatnonzero(result["moved"].values).tolist() == [4]
    cell = result.sel(moe_layer=1, expert=4)
    assert cell["change"].item() == pytest.approx(np.log2(cell["after"] / cell["before"]))
    assert 0 < cell["low"] < cell["change"] < cell["high"]
    by_label = differences(before, after, "domain")
    assert np.argwhere(by_label["moved"].values)[:, 2].tolist() == [4, 4]
    assert by_label["documents_before"].values.tolist() == [50, 50]
    assert by_label["few"].all()


def test_comparing_by_document_is_sharper_than_comparing_samples(tmp_path: Path) -> None:
    before, same = sweep(tmp_path / "a", drawn(1)), sweep(tmp_path / "b", drawn(2))
    half = sweep(tmp_path / "c", drawn(2, documents=50))
    paired, unpaired = differences(before, same), differences(before, half)
    assert (unpaired.attrs["paired"], unpaired.attrs["shared"]) == (False, 50)
    assert (paired["error"] < 0.5 * unpaired["error"]).all()
    assert not paired["moved"].any()
    assert not unpaired["moved"].any()


def test_the_paired_error_is_that_of_the_jackknife_over_documents(tmp_path: Path) -> None:
    one, other = drawn(1)[:, 0, 3], drawn(2)[:, 0, 3]
    result = differences(sweep(tmp_path / "a", drawn(1)), sweep(tmp_path / "b", drawn(2)))
    left = np.log2((other.sum() - other) / (one.sum() - one))
    jackknife = np.sqrt(99 / 100 * ((left - left.mean()) ** 2).sum())
    assert result["error"].values[0, 3] == pytest.approx(jackknife, rel=0.02)


def test_a_sweep_compared_with_itself_has_not_moved(tmp_path: Path) -> None:
    one = sweep(tmp_path, drawn(1))
    result = differences(one, one)
    assert (result["change"] == 0).all()
    assert (result["p"] == 1).all()
    assert not result["moved"].any()


@pytest.mark.parametrize(
    ("manifest", "name"),
    [
        ({"request": {"policy": POLICY | {"window": 32}}}, "window policies"),
        ({"request": {"policy": POLICY, "token_classes": ["all"]}}, "token classes"),
        ({"model": {"tokenizer_sha256": "1" * 64, "layers": [1], "num_experts": 6, "top_k": 1}}, "tokenizers"),
    ],
)
def test_sweeps_that_cannot_be_compared_are_refused_in_one_line(
    tmp_path: Path, manifest: dict[str, Any], name: str
) -> None:
    one, other = sweep(tmp_path / "a", drawn(1)), sweep(tmp_path / "b", drawn(1), manifest=manifest)
    assert refusal(one, one) is None
    with pytest.raises(AtlasError, match=f"the sweeps differ in their {name}, so their loads cannot be compared"):
        differences(one, other)
