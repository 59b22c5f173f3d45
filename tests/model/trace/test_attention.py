"""Attention figures against hand-computed cases."""

import doctest

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from model.trace import attention
from tests.traces import random_trace

ATTENTION = xr.DataArray(
    [[[[1, 0], [0.25, 0.75]]], [[[1, 0], [0.5, 0.5]]]], dims=("attention_layer", "head", "query", "key")
)


def test_rollout_of_two_layers() -> None:
    assert attention.rollout(ATTENTION).values[1].tolist() == [[1, 0], [0.34375, 0.65625]]


def test_mean_of_heads() -> None:
    weights = xr.DataArray([[[1, 0], [0.25, 0.75]], [[1, 0], [0.5, 0.5]]], dims=("head", "query", "key"))
    assert attention.mean_of_heads(weights).values.tolist() == [[1, 0], [0.375, 0.625]]


def test_heads_that_rest_on_the_first_token_are_counted() -> None:
    means = xr.DataArray([[0.1, 0.3, 0.31, 0.9]], dims=("statistic", "head"), coords={"statistic": ["mean"]})
    assert attention.sinks(xr.Dataset({"first_token_share": means})) == 2


def test_head_figures() -> None:
    weights = xr.DataArray([[[1, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]]], dims=("head", "query", "key"))
    assert attention.first_token_share(weights).values[0, 1:].tolist() == [0.5, 0.2]
    assert attention.mean_distance(weights).values[0, 1:] == pytest.approx([0.5, 0.7])
    assert attention.attention_entropy(weights).values[0, 1] == pytest.approx(1)
    for figure in (attention.first_token_share, attention.mean_distance, attention.attention_entropy):
        assert np.isnan(figure(weights).values[0, 0])


def test_entropy_of_a_selection_is_a_share_of_what_it_allows() -> None:
    """Two of three visible keys are kept and have equal weights: the entropy is its maximum, ln 2, and not ln 3."""
    weights = xr.DataArray([[[1, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5]]], dims=("head", "query", "key"))
    assert attention.attention_entropy(weights, top_k=2).values[0, 1:] == pytest.approx([1, 1])
    assert attention.attention_entropy(weights).values[0, 2] == pytest.approx(np.log(2) / np.log(3))


def test_summary_over_queries() -> None:
    weights = xr.DataArray([[[1, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]]], dims=("head", "query", "key"))
    queries = attention.choosing_queries(xr.DataArray([True, True, True], dims=("token",)))
    assert queries.tolist() == [1, 2]
    summary = attention.over_queries(attention.head_figures(weights), queries)
    assert summary["first_token_share"].values[:, 0] == pytest.approx([0.35, 0.23, 0.47])
    assert summary["mean_distance"].sel(statistic="mean").item() == pytest.approx(0.6)


def test_summary_of_no_queries_is_unknown() -> None:
    figures = attention.head_figures(random_trace().data["attention"])
    summary = attention.over_queries(figures, np.array([], dtype=int))
    assert np.isnan(summary["entropy"]).all()
    assert summary["entropy"].sizes == {"statistic": 3, "attention_layer": 3, "head": 2}


def test_worked_example() -> None:
    assert doctest.testmod(attention) == (0, 2)


@given(seed=st.integers(0, 50), num_prompt=st.integers(1, 8), num_layers=st.integers(2, 5))
def test_rollout_stays_a_distribution_over_what_is_visible(seed: int, num_prompt: int, num_layers: int) -> None:
    rolled = attention.rollout(random_trace(seed, num_prompt, 1, num_layers).data["attention"])
    assert np.allclose(rolled.sum("key"), 1, atol=1e-5)
    assert (np.triu(rolled.values, 1) == 0).all()
    assert rolled.coords["attention_layer"].values.tolist() == list(range(num_layers))


@given(seed=st.integers(0, 50))
def test_head_figures_stay_in_their_ranges(seed: int) -> None:
    weights = random_trace(seed, 7, 3).data["attention"]
    for figure, limit in (
        (attention.attention_entropy, 1),
        (attention.first_token_share, 1),
        (attention.mean_distance, 9),
    ):
        values = figure(weights).isel(query=slice(1, None)).values
        assert ((values >= 0) & (values <= limit + 1e-5)).all()


def test_share_elsewhere_is_what_a_row_leaves() -> None:
    assert attention.share_elsewhere(xr.DataArray([0.25, 0.5], dims="key")) == 0.25
    assert attention.share_elsewhere(xr.DataArray([0.5, 0.5 + 1e-7], dims="key")) == 0
    assert np.isnan(attention.share_elsewhere(xr.DataArray([0.5, np.nan], dims="key")))
