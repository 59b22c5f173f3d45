"""A shifted recording is recognised, and no other difference is called a shift."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.trace.comparison import compare
from model.trace.comparison_report import to_json, verdict
from model.trace.shift import LEAST_TOKENS, MOST_TOKENS, find_shift
from model.trace.trace import Trace
from tests.traces import random_trace


def random_ids(tokens: int, layers: int = 4, experts: int = 32, top_k: int = 4, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.permuted(np.tile(np.arange(experts), (tokens, layers, 1)), axis=-1)[..., :top_k]


def moved(ids: np.ndarray, shift: int) -> np.ndarray:
    """Return the rows `shift` tokens later, unknown where none came."""
    placed = np.full_like(ids, -1)
    if shift >= 0:
        placed[shift:] = ids[: len(ids) - shift]
    else:
        placed[:shift] = ids[-shift:]
    return placed


def by_position(number: int) -> np.ndarray:
    return np.stack([np.arange(number)] * 2, 1)


@pytest.mark.parametrize("shift", [1, -1, 5, -7, MOST_TOKENS])
def test_a_shift_is_found(shift: int) -> None:
    ids = random_ids(100)
    found = find_shift(ids, moved(ids, shift), by_position(100))
    assert found is not None
    assert (found.tokens, found.agreement, found.compared) == (shift, 1.0, 100 - abs(shift))
    assert found.as_placed < 0.2


def test_prompt_rows_taken_for_the_last_ones() -> None:
    """11 prompt rows of a run of 11 + 6 tokens are placed at tokens 5 to 15."""
    ids = random_ids(17)
    placed = np.full_like(ids, -1)
    placed[5:16] = ids[:11]
    found = find_shift(ids, placed, by_position(17))
    assert found is not None
    assert (found.tokens, found.compared) == (5, 11)


def test_rounding_does_not_hide_a_shift() -> None:
    ids = random_ids(60)
    other, rng = moved(ids, 2), np.random.default_rng(1)
    other[rng.random(other.shape[:2]) < 0.2, 0] = 99  # a fifth of the choices has one expert of four changed
    found = find_shift(ids, other, by_position(60))
    assert found is not None
    assert found.tokens == 2
    assert 0.9 < found.agreement < 1


def test_what_is_no_shift() -> None:
    ids, other = random_ids(40), random_ids(40, seed=1)
    for a, b in (
        (ids, ids),
        (ids, other),
        (ids[:8], moved(ids[:8], 1)),  # too few tokens
        (random_ids(90), moved(random_ids(90), MOST_TOKENS + 1)),
        (np.repeat(ids[:1], 40, 0), np.repeat(ids[:1], 40, 0)),  # constant routing
        (ids, np.full_like(ids, -1)),
    ):
        assert find_shift(a, b, by_position(len(a))) is None
    half = np.where(np.arange(40)[:, None, None] < 20, ids, moved(ids, 1))  # half of it in its place
    assert find_shift(ids, half, by_position(40)) is None


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.integers(1, 90), layers=st.integers(1, 12), top_k=st.integers(1, 4), shift=st.integers(-70, 70),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_any_shift_is_found_or_too_long_and_equal_traces_have_none(
    tokens: int, layers: int, top_k: int, shift: int, seed: int
) -> None:
    ids, pairs = random_ids(tokens, layers, 32, top_k, seed), by_position(tokens)
    assert find_shift(ids, ids, pairs) is None
    assert find_shift(ids, random_ids(tokens, layers, 32, top_k, seed + 1000), pairs) is None
    left = tokens - abs(shift)
    if left < 1 or shift == 0:
        return
    found = find_shift(ids, moved(ids, shift), pairs)
    within = abs(shift) <= MOST_TOKENS and left >= LEAST_TOKENS and left * min(layers, 8) >= 32
    assert (found is not None) == within
    if found is not None:
        assert found.tokens == shift
        back = find_shift(moved(ids, shift), ids, pairs)
        assert back is not None
        assert back.tokens == -shift


def as_imported(trace: Trace, shift: int) -> Trace:
    data = trace.data[["token_id", "expert_id"]]
    ids = moved(data["expert_id"].values, shift)
    data = data.assign(expert_id=(data["expert_id"].dims, ids))
    return dataclasses.replace(trace, data=data, origin={**trace.origin, "kind": "imported"})


def test_compare_says_it_first() -> None:
    trace = random_trace(num_prompt=30, num_layers=5, num_experts=32)
    comparison = compare(trace, as_imported(trace, 3))
    assert comparison.shift is not None
    first = verdict(comparison)[0]
    assert first.startswith("The recording looks shifted by 3 tokens: 100 % of the experts agree")
    assert to_json(comparison)["shift"] == {
        "tokens": 3, "agreement": 1.0, "as_placed": pytest.approx(comparison.shift.as_placed), "compared": 31,
    }  # fmt: skip
    assert "looks shifted by 1 token:" in verdict(compare(as_imported(trace, -1), trace))[0]
    alike = compare(trace, as_imported(trace, 0))
    assert alike.shift is None
    assert to_json(alike)["shift"] is None
    assert "shifted" not in " ".join(verdict(alike))
