"""The bounds of chance against exact distributions, and against simulations that route token by token."""

import doctest
import math
import time

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from model.trace import chance, metrics
from model.trace.chance import fair_counts, load_band, tokens_to_call_dead


def binomial(num_tokens: int, share: float) -> np.ndarray:
    """Probability of every count from 0 to num_tokens."""
    counts = range(num_tokens + 1)
    return np.array([math.comb(num_tokens, c) * share**c * (1 - share) ** (num_tokens - c) for c in counts])


def routed_one_by_one(
    rng: np.random.Generator, draws: int, tokens: int, experts: int, top_k: int, groups: int, kept: int
) -> np.ndarray:
    """Tokens per expert, [draw, expert], by choosing groups and experts for each token."""
    counts, size = np.zeros((draws, experts), np.int64), experts // groups
    for draw in range(draws):
        for _ in range(tokens):
            chosen = rng.choice(groups, kept, replace=False)
            reachable = (chosen[:, None] * size + np.arange(size)).ravel()
            counts[draw, rng.choice(reachable, top_k, replace=False)] += 1
    return counts


def test_worked_examples() -> None:
    assert doctest.testmod(chance).failed == 0


def test_count_of_one_expert_is_binomial() -> None:
    """However groups are kept, a token takes a given expert with probability k / N."""
    counts = fair_counts(np.random.default_rng(3), 4000, 20, 16, 4, 4, 2)
    seen = np.bincount(counts.ravel(), minlength=21) / counts.size
    assert seen == pytest.approx(binomial(20, 4 / 16), abs=0.005)


@pytest.mark.parametrize(("tokens", "experts", "top_k"), [(60, 16, 4), (28, 32, 4), (7, 8, 2)])
def test_bounds_are_those_of_the_binomial(tokens: int, experts: int, top_k: int) -> None:
    """At most 2.5 % of a given count's probability is on either side, and one step further in there is more."""
    probability = binomial(tokens, top_k / experts)
    least, most = chance.count_bounds(tokens, top_k / experts)
    assert probability[:least].sum() <= 0.025 < probability[: least + 1].sum()
    assert probability[most + 1 :].sum() <= 0.025 < probability[most:].sum()
    band, every = load_band(tokens, experts, top_k), chance.count_bounds(tokens, top_k / experts, 1 - 0.05 / experts)
    assert (band.low, band.high) == pytest.approx(tuple(np.array(every) * experts / (tokens * top_k)))


def test_band_agrees_with_routing_one_by_one() -> None:
    shape = (60, 8, 2, 4, 2)
    values = routed_one_by_one(np.random.default_rng(9), 800, *shape)
    counts = xr.DataArray(values, dims=("moe_layer", "expert"))
    band = load_band(*shape, draws=2000)
    loads, groups = values / values.mean(), metrics.tokens_per_group(counts, 4).values / (60 * 2 / 4)
    assert band.low == pytest.approx(np.quantile(loads.min(1), 0.02, method="lower"), abs=0.07)
    assert band.high == pytest.approx(np.quantile(loads.max(1), 0.98, method="higher"), abs=0.14)
    assert band.group_low == pytest.approx(np.quantile(groups.min(1), 0.015), abs=0.07)
    assert band.group_high == pytest.approx(np.quantile(groups.max(1), 0.985), abs=0.07)
    assert band.max_violation == band.high - 1
    assert band.variation == pytest.approx(np.quantile(metrics.coefficient_of_variation(counts), 0.975), abs=0.02)
    assert band.entropy == pytest.approx(np.quantile(metrics.normalised_entropy(counts), 0.025), abs=0.005)
    assert band.gini == pytest.approx(np.quantile(metrics.gini(counts), 0.975), abs=0.01)
    assert band.dead == pytest.approx((values == 0).sum(1).mean(), abs=0.05)


def test_experts_of_one_group_share_its_luck() -> None:
    """Covariances by hand: 1 / 12 of 40 tokens select both experts of a given group, none one of each group."""
    covariance = np.cov(fair_counts(np.random.default_rng(5), 5000, 40, 8, 2, 2, 1).T)
    assert covariance[0, 0] == pytest.approx(40 * 0.25 * 0.75, abs=0.4)
    assert covariance[0, 1] == pytest.approx(40 * (1 / 12 - 1 / 16), abs=0.4)
    assert covariance[0, 5] == pytest.approx(-40 / 16, abs=0.4)


@given(st.data())
def test_every_draw_gives_out_every_slot(data: st.DataObject) -> None:
    groups, size = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6))
    kept = data.draw(st.integers(1, groups))
    top_k = data.draw(st.integers(1, kept * size))
    tokens = data.draw(st.integers(1, 50))
    counts = fair_counts(np.random.default_rng(0), 3, tokens, groups * size, top_k, groups, kept)
    assert (counts.sum(1) == tokens * top_k).all()
    assert counts.min() >= 0
    assert counts.max() <= tokens


def test_fair_layers_stay_inside_as_often_as_it_says() -> None:
    """Layers of another simulation: at most 5 in 100 are beyond each bound."""
    shape = (100, 16, 4, 4, 2)
    band, values = load_band(*shape, draws=2000), routed_one_by_one(np.random.default_rng(77), 400, *shape)
    counts = xr.DataArray(values, dims=("moe_layer", "expert"))
    loads = values / values.mean()
    groups = metrics.tokens_per_group(counts, 4)
    groups = (groups / groups.mean("group")).values
    beyond = [
        ((loads < band.low) | (loads > band.high)).any(1),
        ((groups < band.group_low) | (groups > band.group_high)).any(1),
        metrics.max_violation(counts).values > band.max_violation,
        metrics.coefficient_of_variation(counts).values > band.variation,
        metrics.normalised_entropy(counts).values < band.entropy,
        metrics.gini(counts).values > band.gini,
        (values == 0).sum(1) > band.num_dead,
    ]
    assert max(layers.mean() for layers in beyond) < 0.06


def test_band_narrows_with_tokens_and_knows_dead_experts() -> None:
    few, many = load_band(8, 32, 4, 4, 2), load_band(800, 32, 4, 4, 2)
    assert many.high - many.low < few.high - few.low
    assert many.max_violation < few.max_violation
    assert few.dead == pytest.approx(32 * (1 - 4 / 32) ** 8, rel=0.1)
    assert (few.low, many.num_dead) == (0, 0)


def test_band_of_one_token_is_exact() -> None:
    """One token gives top-k experts one slot each and the others none."""
    band = load_band(1, 8, 2, 4, 2)
    assert (band.low, band.high, band.max_violation) == (0, 4, 3)
    assert (band.dead, band.num_dead) == (6, 6)


def test_band_where_every_token_takes_every_expert_has_no_width() -> None:
    band = load_band(5, 4, 4, 2, 2)
    assert (band.low, band.high, band.max_violation, band.dead) == (1, 1, 0, 0)


def test_band_of_a_large_model_is_quick_for_any_number_of_tokens() -> None:
    began = time.process_time()
    load_band(19_999, 256, 8, 8, 4)
    assert time.process_time() - began < 2


def test_a_router_that_would_take_minutes_is_refused_at_once() -> None:
    began = time.process_time()
    with pytest.raises(ValueError, match="10000 of 32767 experts take too long"):
        load_band(1, 32767, 10000)
    assert time.process_time() - began < 0.1


@pytest.mark.parametrize("shape", [(32, 4, 5, 2), (32, 20, 4, 2), (32, 4, 4, 5), (32, 0, 4, 2)])
def test_impossible_routers_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cannot be drawn"):
        load_band(8, *shape)
    with pytest.raises(ValueError, match="at least one token"):
        load_band(0, 8, 2)


@pytest.mark.parametrize(("experts", "top_k"), [(256, 8), (32, 4), (8, 2)])
def test_fewest_tokens_that_show_a_dead_expert(experts: int, top_k: int) -> None:
    fewest = tokens_to_call_dead(experts, top_k)
    idle = experts * (1 - top_k / experts) ** np.array([fewest - 1, fewest])  # expected experts without a token
    assert idle[1] <= 0.05 < idle[0]
    assert tokens_to_call_dead(4, 4) == 1


SHAPES = [(8, 2, 1, 1), (16, 4, 4, 2), (32, 4, 4, 2), (64, 6, 1, 1), (128, 8, 1, 1), (160, 6, 8, 3), (256, 8, 8, 4)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("num_tokens", [5, 28, 100, 700, 5000])
def test_an_expert_of_a_fair_layer_is_called_unfair_in_at_most_5_percent(
    shape: tuple[int, int, int, int], num_tokens: int
) -> None:
    """The bounds hold all experts of a layer, the busiest and the idlest among them."""
    experts, top_k, groups, kept = shape
    least, most = chance.count_bounds(num_tokens, top_k / experts, 1 - 0.05 / experts)
    counts = fair_counts(np.random.default_rng(1), 2000, num_tokens, experts, top_k, groups, kept)
    assert ((counts.max(1) > most) | (counts.min(1) < least)).mean() <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 2000)
    assert (counts.max(1) > most - 1).mean() > 0.01  # the next lower bound would be exceeded too often, or nearly so


def test_bounds_of_one_given_expert_call_most_fair_layers_unfair() -> None:
    least, most = chance.count_bounds(700, 4 / 32)
    counts = fair_counts(np.random.default_rng(2), 1000, 700, 32, 4, 4, 2)
    assert ((counts.max(1) > most) | (counts.min(1) < least)).mean() > 0.5


@pytest.mark.parametrize("shape", SHAPES[:4])
def test_other_bounds_of_a_layer_hold_in_95_percent_of_fair_layers(shape: tuple[int, int, int, int]) -> None:
    experts, top_k, groups, kept = shape
    band = load_band(100, *shape)
    values = fair_counts(np.random.default_rng(3), 2000, 100, experts, top_k, groups, kept)
    counts = xr.DataArray(values, dims=("moe_layer", "expert"))
    beyond = [
        metrics.coefficient_of_variation(counts).values > band.variation,
        metrics.normalised_entropy(counts).values < band.entropy,
        metrics.gini(counts).values > band.gini,
        (values == 0).sum(1) > band.num_dead,
    ]
    assert max(layers.mean() for layers in beyond) <= 0.06
