"""Windows depend on seed and step alone, begin with BOS, and come from the streams by the square root of their size."""

import os
from pathlib import Path

import numpy as np
import pytest

from model.train.data.corpus import CorpusError
from model.train.data.windows import Windows, mixture
from tests.model.train.corpora import write_tiny_shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_shards(tmp_path_factory.mktemp("data"))


def test_a_step_always_sees_the_same(shards: Path) -> None:
    one, other = (Windows(shards, 16, bos_id=0) for _ in range(2))
    assert one.batch(0, 7, 4).equal(other.batch(0, 7, 4))
    assert not one.batch(0, 8, 4).equal(one.batch(0, 7, 4))
    assert not one.batch(1, 7, 4).equal(one.batch(0, 7, 4))


def test_windows_are_runs_of_a_stream_after_bos(shards: Path) -> None:
    windows = Windows(shards, 16, bos_id=0)
    streams = [(shards / f"{name}.bin").read_bytes() for name in windows.streams]
    for row in windows.batch(0, 0, 8).numpy().astype(np.uint16):
        assert row[0] == 0
        assert any(row[1:].tobytes() in stream for stream in streams)


def test_probability_is_the_root_of_the_size(shards: Path) -> None:
    windows = Windows(shards, 16, bos_id=0)
    sizes = [windows.index["streams"][name]["bytes"] for name in windows.streams]
    assert windows.probabilities[0] / windows.probabilities[1] == pytest.approx((sizes[0] / sizes[1]) ** 0.5)
    assert windows.probabilities.sum() == pytest.approx(1)


def test_a_factor_multiplies_a_streams_share(shards: Path) -> None:
    plain, factored = mixture(shards), mixture(shards, {"code.python": 3.0})
    other = next(name for name in plain if name != "code.python")
    before, after = plain["code.python"] / plain[other], factored["code.python"] / factored[other]
    assert after == pytest.approx(3 * before)
    assert sum(factored.values()) == pytest.approx(1)
    assert Windows(shards, 16, 0, {"code.python": 3.0}).probabilities == pytest.approx(list(factored.values()))


def test_a_stream_with_factor_zero_is_never_drawn(shards: Path) -> None:
    windows = Windows(shards, 16, 0, {"code.python": 0.0})
    python = (shards / "code.python.bin").read_bytes()
    rows = windows.batch(0, 0, 200).numpy().astype(np.uint16)
    assert not any(row[1:].tobytes() in python for row in rows)


@pytest.mark.parametrize(
    ("factors", "said"), [({"code.cobol": 2.0}, "names code.cobol, but the shards hold"), (None, "no stream to draw")]
)
def test_a_mixture_that_cannot_be_drawn_is_refused(shards: Path, factors: dict[str, float] | None, said: str) -> None:
    with pytest.raises(CorpusError, match=said):
        mixture(shards, factors or dict.fromkeys(mixture(shards), 0.0))


def test_damaged_shard_is_refused(tmp_path: Path) -> None:
    shards = write_tiny_shards(tmp_path)
    path = shards / "code.python.bin"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(CorpusError, match="tokenise again"):
        Windows(shards, 16, bos_id=0)


def test_missing_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="tokenize command"):
        Windows(tmp_path, 16, bos_id=0)


def test_window_longer_than_a_stream_is_refused(shards: Path) -> None:
    with pytest.raises(CorpusError, match="shorter than one window"):
        Windows(shards, 100_000, bos_id=0)


def test_a_shard_truncated_during_training_is_one_line(tmp_path: Path) -> None:
    """A mapped file would end the process with a bus error."""
    shards = write_tiny_shards(tmp_path)
    windows = Windows(shards, 16, bos_id=0)
    assert windows.batch(0, 0, 2).shape == (2, 17)
    for path in shards.glob("*.bin"):
        os.truncate(path, 20)
    with pytest.raises(CorpusError, match=r"\.bin ended while it was read; it was truncated"):
        windows.batch(0, 1, 2)
