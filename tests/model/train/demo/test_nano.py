"""The nano model: it learns from the sample, and without balancing it collapses while with it it does not."""

import threading

import numpy as np
import pytest
import torch

from model.train.demo.nano import BIAS, LOSS, NOTHING, Nano, train_nano
from model.train.demo.sample import BOS, STREAMS, VOCABULARY, ByteWindows, sample
from model.train.watch import COLLAPSE


def test_sample_is_small_and_has_its_streams() -> None:
    assert set(sample()) == set(STREAMS)
    assert sum(map(len, sample().values())) < 2_000_000
    assert all(0 <= text.min() <= text.max() < BOS < VOCABULARY for text in sample().values())


def test_windows_are_bytes_of_the_sample_and_depend_on_the_step_alone() -> None:
    windows = ByteWindows(20)
    batch = windows.batch(seed=3, step=5, num_sequences=4)
    assert batch.shape == (4, 21)
    assert batch.equal(windows.batch(3, 5, 4))
    assert not batch.equal(windows.batch(3, 6, 4))
    assert (batch[:, 0] == BOS).all()
    texts = [bytes(text.astype(np.uint8)) for text in sample().values()]
    assert all(any(bytes(row[1:].tolist()) in text for text in texts) for row in batch)


def worst(lines: list[dict], last: int = 40) -> float:
    """Largest MaxVio of a layer over the last steps together."""
    loads = [np.sum([line["load"][layer] for line in lines[-last:]], axis=0) for layer in lines[0]["load"]]
    return max(float(load.max() / load.mean() - 1) for load in loads)


@pytest.fixture(scope="module")
def runs() -> dict[str, list[dict]]:
    strengths = {NOTHING: 0.0, BIAS: 0.02, LOSS: 0.03}
    return {method: list(train_nano(Nano(method, strength, steps=150))) for method, strength in strengths.items()}


def test_every_way_learns_from_the_same_beginning(runs: dict[str, list[dict]]) -> None:
    first = [lines[0]["loss"] for lines in runs.values()]
    assert max(first) - min(first) < 1e-5
    assert all(lines[-1]["loss"] < lines[0]["loss"] - 2 for lines in runs.values())


def test_without_balancing_it_collapses_and_the_alarm_says_so(runs: dict[str, list[dict]]) -> None:
    assert worst(runs[NOTHING]) > 3
    assert worst(runs[BIAS]) < 1
    assert worst(runs[LOSS]) < 1.5
    said = {method: [alarm for line in lines for alarm in line.get("alarms", [])] for method, lines in runs.items()}
    assert any(alarm.startswith(COLLAPSE) for alarm in said[NOTHING])
    assert not any(alarm.startswith(COLLAPSE) for method in (BIAS, LOSS) for alarm in said[method])


def test_bias_moves_by_its_strength_and_keeps_its_mean(runs: dict[str, list[dict]]) -> None:
    first, second = (np.array(runs[BIAS][step]["bias"]["1"]) for step in (0, 1))
    moved = np.unique(np.round(second - first, 3))
    assert np.ptp(moved) == pytest.approx(2 * 0.02, abs=2e-3)  # up or down, around a mean that stays
    assert abs(np.mean(second)) < 1e-3
    assert not np.any(runs[NOTHING][-1]["bias"]["1"])


def test_a_run_can_be_ended_and_leaves_the_threads_as_they_were() -> None:
    cancel, threads = threading.Event(), torch.get_num_threads()
    steps = train_nano(Nano(steps=50), cancel)
    assert [next(steps)["step"] for _ in range(3)] == [1, 2, 3]
    cancel.set()
    assert list(steps) == []
    assert torch.get_num_threads() == threads


def test_switches() -> None:
    assert Nano(softmax=True).shape.scoring == "softmax"
    assert Nano(limit_groups=False).shape.num_kept_groups == 4
    for wrong in ({"method": "prayer"}, {"strength": -1.0}, {"steps": 0}):
        with pytest.raises(ValueError, match="unknown balancing method|must be at least 0"):
            Nano(**wrong)
