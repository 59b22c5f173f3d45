"""Load figures against numbers worked out by hand."""

import doctest

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from model.trace import metrics
from tests.traces import random_trace

COUNTS = xr.DataArray([[10, 2, 4, 4, 0, 4, 4, 4]], dims=("moe_layer", "expert"), coords={"moe_layer": [3]})


def ids(rows: list) -> xr.DataArray:
    array = np.array(rows, dtype=np.int16)
    return xr.DataArray(array, dims=("token", "moe_layer", "rank"), coords={"moe_layer": range(1, 1 + array.shape[1])})


def test_worked_example() -> None:
    assert doctest.testmod(metrics) == (0, 5)


def test_load_figures_of_a_known_layer() -> None:
    assert metrics.max_violation(COUNTS).item() == pytest.approx(1.5)
    assert metrics.coefficient_of_variation(COUNTS).item() == pytest.approx(0.6614378, abs=1e-6)
    assert metrics.normalised_entropy(COUNTS).item() == pytest.approx(0.8831325, abs=1e-6)
    assert metrics.coefficient_of_variation(COUNTS, ddof=1).item() == pytest.approx(0.7071068, abs=1e-6)
    assert metrics.normalised_entropy(COUNTS).item() * np.log(8) == pytest.approx(1.8364224, abs=1e-6)  # nats
    assert metrics.gini(COUNTS).item() == pytest.approx(0.3125, abs=1e-6)
    assert metrics.dead_experts(COUNTS).sum() == 1
    assert metrics.hot_experts(COUNTS).values.tolist() == [[True] + [False] * 7]
    assert metrics.relative_load(COUNTS).values[0, :2].tolist() == [2.5, 0.5]
    assert metrics.max_violation(COUNTS).coords["moe_layer"].values.tolist() == [3]


def test_uniform_and_collapsed_layers_are_the_extremes() -> None:
    layers = xr.DataArray([[5, 5, 5, 5], [20, 0, 0, 0]], dims=("moe_layer", "expert"))
    assert metrics.max_violation(layers).values.tolist() == [0, 3]
    assert metrics.normalised_entropy(layers).values == pytest.approx([1, 0])
    assert metrics.gini(layers).values == pytest.approx([0, 0.75])


def test_nothing_counted_is_nan_and_not_zero() -> None:
    empty = xr.DataArray([[0, 0]], dims=("moe_layer", "expert"))
    for metric in ("max_violation", "coefficient_of_variation", "normalised_entropy", "gini"):
        assert np.isnan(getattr(metrics, metric)(empty).item()), metric


def test_counting_leaves_out_masked_tokens_and_unknown_slots() -> None:
    expert_id = ids([[[0, 1]], [[1, 2]], [[-1, -1]]])
    assert metrics.tokens_per_expert(expert_id, 4).values.tolist() == [[1, 2, 1, 0]]
    mask = xr.DataArray([False, True, True], dims=("token",))
    assert metrics.tokens_per_expert(expert_id, 4, mask).values.tolist() == [[0, 1, 1, 0]]


def test_tokens_with_an_unknown_slot_in_any_layer_are_known() -> None:
    expert_id = ids([[[0, 1], [2, 3]], [[0, 1], [2, -1]], [[-1, -1], [-1, -1]]])
    assert metrics.has_experts(expert_id).values.tolist() == [True, False, False]


def test_groups() -> None:
    groups = metrics.tokens_per_group(COUNTS, 4)
    assert groups.values.tolist() == [[12, 8, 4, 8]]
    assert metrics.balancedness(groups, "group").item() == pytest.approx(2 / 3, abs=1e-5)


def test_special_tokens_can_be_left_out() -> None:
    trace = random_trace(num_prompt=3, num_new=0)  # its first token is the special one
    without = metrics.tokens_per_expert(trace.data["expert_id"], 8, ~trace.special_mask)
    assert (without == metrics.tokens_per_expert(trace.data["expert_id"][1:], 8)).all()


@pytest.mark.parametrize("stray", [4, -2])
def test_ids_of_other_models_are_refused(stray: int) -> None:
    with pytest.raises(ValueError, match="the model has 4 experts"):
        metrics.tokens_per_expert(ids([[[0, stray], [1, 2]]]), 4)


def test_surprisal_is_in_bits() -> None:
    logprob = xr.DataArray([np.nan, -np.log(8)], dims=("token",))
    assert metrics.surprisal_bits(logprob).values[1] == pytest.approx(3)


def test_mean_surprisal_leaves_out_the_first_token() -> None:
    logprob = xr.DataArray([np.nan, -np.log(8), -np.log(2)], dims=("token",))
    assert metrics.mean_surprisal_bits(logprob) == pytest.approx(2)
    assert np.isnan(metrics.mean_surprisal_bits(logprob[:1]))


def test_probability_of_a_log_probability() -> None:
    assert metrics.probability(xr.DataArray([0, -np.log(4)])).values.tolist() == pytest.approx([1, 0.25])


@given(seed=st.integers(0, 50), num_prompt=st.integers(1, 8), num_new=st.integers(0, 5))
def test_identities_on_any_trace(seed: int, num_prompt: int, num_new: int) -> None:
    trace = random_trace(seed, num_prompt, num_new)
    expert_id = trace.data["expert_id"]
    counts = metrics.tokens_per_expert(expert_id, 8)
    assert (counts.sum("expert") == trace.num_tokens * 2).all()
    prompt = metrics.tokens_per_expert(expert_id, 8, trace.prompt_mask)
    assert (prompt + metrics.tokens_per_expert(expert_id, 8, ~trace.prompt_mask) == counts).all()
    assert metrics.relative_load(counts).mean("expert").values == pytest.approx(1)
    assert 0 <= float(metrics.gini(counts).min()) <= float(metrics.gini(counts).max()) < 1
    assert ((metrics.tokens_per_group(counts, 4).sum("group")) == counts.sum("expert")).all()


def test_typical_norm_is_the_median_over_tokens() -> None:
    norm = xr.DataArray([[900.0, 9.0], [1.0, 2.0], [3.0, 4.0]], dims=("token", "layer"), coords={"layer": [0, 1]})
    assert metrics.typical_norm(norm).to_series().to_dict() == {0: 3.0, 1: 4.0}


def test_surprisal_of_prompt_and_generated_tokens_is_apart() -> None:
    logprob = xr.DataArray(np.log([np.nan, 1 / 256, 1 / 2, 1 / 2]), dims=("token",))
    is_prompt = xr.DataArray([True, True, False, False], dims=("token",))
    assert metrics.surprisal_in_words(logprob, is_prompt) == [
        "8 bit of the prompt (n = 1)",
        "1 bit of the new tokens (n = 2)",
    ]
    assert metrics.surprisal_in_words(logprob[:2], is_prompt[:2]) == ["8 bit of the prompt (n = 1)"]
    assert metrics.surprisal_in_words(logprob[:1], is_prompt[:1]) == []
