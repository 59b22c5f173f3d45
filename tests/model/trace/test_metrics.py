"""Every metric against numbers worked out by hand, and the identities they must keep on any trace."""

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


def test_load_figures_of_a_known_layer() -> None:
    assert metrics.max_violation(COUNTS).item() == pytest.approx(1.5)
    assert metrics.coefficient_of_variation(COUNTS).item() == pytest.approx(0.6614378, abs=1e-6)
    assert metrics.normalised_entropy(COUNTS).item() == pytest.approx(0.8831325, abs=1e-6)
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


def test_groups() -> None:
    assert metrics.tokens_per_group(COUNTS, 4).values.tolist() == [[12, 8, 4, 8]]
    kept = xr.DataArray([[[True, False]], [[True, True]]], dims=("token", "moe_layer", "group"))
    assert metrics.group_utilisation(kept).values.tolist() == [[1.0, 0.5]]


def test_coactivation_counts_all_pairs() -> None:
    expert_id = ids([[[0, 1, 2]], [[0, 2, 3]]])
    shares = metrics.coactivation(expert_id, 5).values[0]
    assert shares[0].tolist() == [1, 0.5, 1, 0.5, 0]
    assert shares[1].tolist() == [1, 1, 1, 0, 0]  # ranks 0 and 2 are no neighbours and count all the same
    assert np.isnan(shares[4]).all()


def test_transitions_count_all_pairs_of_consecutive_layers() -> None:
    pairs = metrics.transitions(ids([[[0, 1], [2, 0]], [[0, 2], [2, 1]]]), 3)
    assert pairs.coords["moe_layer"].values.tolist() == [1]
    assert pairs.values.tolist() == [[[1, 1, 2], [1, 0, 1], [0, 1, 1]]]


SCORES = [0.9, 0.1, 0.6, 0.5, 0.8, 0.05, 0.3, 0.2]
BIAS = [0, 0, 0, 0, -0.3, 0, 0.4, 0.25]


def gate() -> dict[str, xr.DataArray]:
    score = xr.DataArray([[SCORES]], dims=("token", "moe_layer", "expert"), coords={"moe_layer": [1]})
    bias = xr.DataArray([BIAS], dims=("moe_layer", "expert"), coords={"moe_layer": [1]})
    groups = xr.DataArray([[[1.0, 1.1, 0.55, 1.15]]], dims=("token", "moe_layer", "group"), coords={"moe_layer": [1]})
    return {"score": score, "bias": bias, "group": groups, "kept": groups > 1.05, "ids": ids([[[2, 3, 6]]])}


def test_who_lost_to_what() -> None:
    g = gate()
    # without the bias: groups 0 (1.0) and 1 (1.1) are kept, experts 0, 2, 3 selected: only 0 is new
    assert np.flatnonzero(metrics.lost_to_bias(g["score"], g["ids"], 4, 2)).tolist() == [0]
    # without the limit: biased 0.9, 0.7, 0.6 are experts 0, 6, 2: only 0 is new
    assert np.flatnonzero(metrics.lost_to_group_limit(g["score"], g["bias"], g["ids"])).tolist() == [0]


def test_margins() -> None:
    g = gate()
    biased = metrics.biased_score(g["score"], g["bias"])
    assert metrics.expert_margin(biased, g["ids"], g["kept"]).item() == pytest.approx(0.5 - 0.45)
    assert metrics.group_margin(g["group"], g["kept"]).item() == pytest.approx(1.1 - 1.0)
    assert metrics.group_margin(g["group"], g["kept"] | True).item() == np.inf


def test_mutual_information() -> None:
    assert metrics.mutual_information(np.array([[5, 0], [0, 5]])) == pytest.approx(np.log(2))
    assert metrics.mutual_information(np.array([[2, 4], [3, 6]])) == pytest.approx(0, abs=1e-12)


def test_text_measures() -> None:
    logprob = xr.DataArray([np.nan, -np.log(8)], dims=("token",))
    assert metrics.surprisal_bits(logprob).values[1] == pytest.approx(3)
    assert metrics.bits_per_byte(16 * np.log(2), 8) == pytest.approx(2)


ATTENTION = xr.DataArray(
    [[[[1, 0], [0.25, 0.75]]], [[[1, 0], [0.5, 0.5]]]], dims=("attention_layer", "head", "query", "key")
)


def test_rollout_of_two_layers() -> None:
    assert metrics.rollout(ATTENTION).values[1].tolist() == [[1, 0], [0.34375, 0.65625]]


def test_head_figures() -> None:
    weights = xr.DataArray([[[1, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]]], dims=("head", "query", "key"))
    assert metrics.first_token_share(weights).values[0, 1:].tolist() == [0.5, 0.2]
    assert metrics.mean_distance(weights).values[0, 1:] == pytest.approx([0.5, 0.7])
    assert metrics.attention_entropy(weights).values[0, 1] == pytest.approx(1)
    for figure in (metrics.first_token_share, metrics.mean_distance, metrics.attention_entropy):
        assert np.isnan(figure(weights).values[0, 0])


def test_mean_by_distance_leaves_hidden_pairs_out() -> None:
    parts = xr.DataArray([[1.0, np.nan], [4.0, 3.0]], dims=("query", "key"))
    assert metrics.mean_by_distance(parts).values.tolist() == [2, 4]


@given(seed=st.integers(0, 50), num_prompt=st.integers(1, 8), num_new=st.integers(0, 5))
def test_identities_on_any_trace(seed: int, num_prompt: int, num_new: int) -> None:
    trace = random_trace(seed, num_prompt, num_new)
    expert_id, tokens, top_k = trace.data["expert_id"], trace.num_tokens, 2
    counts = metrics.tokens_per_expert(expert_id, 8)
    assert (counts.sum("expert") == tokens * top_k).all()
    prompt = metrics.tokens_per_expert(expert_id, 8, trace.prompt_mask)
    assert (prompt + metrics.tokens_per_expert(expert_id, 8, ~trace.prompt_mask) == counts).all()
    shares = metrics.coactivation(expert_id, 8).values
    diagonal = np.diagonal(shares, axis1=1, axis2=2)
    assert np.array_equal(np.isnan(diagonal), counts.values == 0)
    assert (diagonal[~np.isnan(diagonal)] == 1).all()
    assert (metrics.transitions(expert_id, 8).sum(["expert", "next_expert"]) == tokens * top_k**2).all()
    assert np.allclose(metrics.rollout(trace.data["attention"]).sum("key"), 1, atol=1e-5)
    assert 0 <= float(metrics.gini(counts).min()) <= float(metrics.gini(counts).max()) < 1
    biased = metrics.biased_score(trace.data["router_score"], trace.data["expert_bias"])
    assert (metrics.expert_margin(biased, expert_id, trace.data["group_kept"]) >= 0).all()
    assert (metrics.group_margin(trace.data["group_score"], trace.data["group_kept"]) >= 0).all()


def test_recorded_selection_is_what_the_rule_gives() -> None:
    """`_select` agrees with the traces' own selection, so 'would have been selected' means what it says."""
    trace = random_trace(3, 40, 0)
    biased = metrics.biased_score(trace.data["router_score"], trace.data["expert_bias"])
    again = metrics._select(biased.values, 2, 4, 2)  # pyright: ignore[reportPrivateUsage]
    assert np.array_equal(again, metrics.one_hot(trace.data["expert_id"], 8))


def test_band_without_groups_is_binomial() -> None:
    """One expert's count is binomial(n, k / N); the band's ends are its quantiles."""
    tokens, experts, top_k = 400, 16, 4
    band = metrics.load_band(tokens, experts, top_k, draws=1000)
    mean, deviation = tokens * top_k / experts, np.sqrt(tokens * (top_k / experts) * (1 - top_k / experts))
    assert band.high == pytest.approx((mean + 1.96 * deviation) / mean, abs=0.02)
    assert band.low == pytest.approx((mean - 1.96 * deviation) / mean, abs=0.02)


def test_band_with_groups_agrees_with_a_slow_simulation() -> None:
    tokens, draws, rng = 60, 1500, np.random.default_rng(9)
    ratios = np.zeros((draws, 8))
    for draw in range(draws):
        for _ in range(tokens):
            groups = rng.choice(4, 2, replace=False)
            reachable = np.concatenate([[2 * g, 2 * g + 1] for g in groups])
            ratios[draw, rng.choice(reachable, 2, replace=False)] += 8 / (2 * tokens)
    band = metrics.load_band(tokens, 8, 2, 4, 2, draws=1500)
    assert (band.low, band.high) == pytest.approx(tuple(np.quantile(ratios, [0.025, 0.975])), abs=0.04)
    assert band.max_violation == pytest.approx(np.quantile(ratios.max(1), 0.95) - 1, abs=0.05)
    assert band.dead == pytest.approx((ratios == 0).sum(1).mean(), abs=0.05)


def test_band_narrows_with_tokens_and_knows_dead_experts() -> None:
    few, many = metrics.load_band(8, 32, 4, 4, 2), metrics.load_band(800, 32, 4, 4, 2)
    assert many.high - many.low < few.high - few.low
    assert few.dead == pytest.approx(32 * (1 - 4 / 32) ** 8, rel=0.1)
    with pytest.raises(ValueError, match="at least one token"):
        metrics.load_band(0, 8, 2)
