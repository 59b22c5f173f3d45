"""Counts of SGLang's recorder: steps come back, dense layers and unused steps do not."""

from typing import Any

import numpy as np
import pytest

from model.trace.imports.count_formats import read_counts
from model.trace.trace import TraceError
from tests.engines import TINY, as_json

STEPS = np.random.default_rng(3).integers(0, 9, (6, 5, 16))
STEPS[:, 0] = 0
STEPS[4] = 0


def refused(counts: Any) -> str:
    with pytest.raises(TraceError) as caught:
        read_counts(as_json({"logical_count": counts}), TINY)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_steps_come_back_as_windows() -> None:
    counts = read_counts(as_json({"rank": 0, "logical_count": STEPS.tolist()}), TINY)
    assert np.array_equal(counts.windows, STEPS[[0, 1, 2, 3, 5], 1:])
    assert "buffer" in counts.notes[0]
    one = read_counts(as_json({"logical_count": STEPS[0].tolist()}), TINY)
    assert np.array_equal(one.windows, STEPS[:1, 1:])


def test_what_does_not_fit_is_refused() -> None:
    assert "4 layers; the model named has 5, dense ones included" in refused(STEPS[:, 1:].tolist())
    assert "physical ids of redundant experts" in refused(np.pad(STEPS, ((0, 0), (0, 0), (0, 2))).tolist())
    assert "counts nothing in L1" in refused(np.zeros_like(STEPS).tolist())
    assert "counts experts in L0" in refused((STEPS + 1).tolist())
    for damaged in ((-1 - STEPS).tolist(), [], [[[1], [1, 2]]], [[[0.5]]], None, "x", [[]]):
        assert "must be whole numbers" in refused(damaged)
