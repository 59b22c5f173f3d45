"""Figures of drafts against numbers worked out by hand, and what holds for every trace."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.trace import drafts
from model.trace.trace import Trace, TraceError
from tests.traces import random_trace


def worked() -> Trace:
    """Two prompt tokens, four new ones; drafts of tokens 3 and 5 were verified, and only that of 3 was accepted."""
    trace = random_trace(num_prompt=2, num_new=4, num_layers=2, drafts=True)
    data = trace.data.copy()
    ids = data["token_id"].values
    experts = [[0, 1], [2, 3], [0, 1], [0, 2], [1, 2], [0, 3]]
    sent = [[-1, -1], [-1, -1], [-1, -1], [0, 2], [-1, -1], [3, 1]]
    data["expert_id"] = (("token", "moe_layer", "rank"), np.array(experts, np.int16)[:, None])
    data["draft_expert_id"] = (("token", "moe_layer", "rank"), np.array(sent, np.int16)[:, None])
    data["draft_tried"] = (("token",), np.array([0, 0, 0, 1, 0, 1], bool))
    data["draft_id"] = (("token",), np.array([-1, -1, ids[2], ids[3], ids[4] + 1, ids[5] + 1], np.int32))
    return dataclasses.replace(trace, data=data)


def test_worked_example() -> None:
    trace = worked()
    verified = drafts.acceptance(trace)
    assert (verified.matching, verified.total, verified.share) == (1, 2, 0.5)
    assert drafts.agreement(trace, ~trace.prompt_mask) == drafts.Acceptance(2, 4)
    assert drafts.agreement(trace, trace.prompt_mask) == drafts.Acceptance(0, 0)
    assert np.isnan(drafts.agreement(trace, trace.prompt_mask).share)
    assert drafts.passes_saved(trace) == (1, 4)
    shared = drafts.shared_experts(trace)[:, 0].values
    assert np.array_equal(shared, [np.nan, np.nan, np.nan, 1, np.nan, 0.5], equal_nan=True)
    assert np.array_equal(drafts.shared_by_token(trace), shared, equal_nan=True)  # there is one layer
    assert drafts.num_rejected(trace) == 1
    assert drafts.shared_by_layer(trace).values.tolist() == [0.5]
    # New tokens take 0 1, 0 2, 1 2, 0 3: the six pairs share 1, 1, 1, 1, 1 and 0 of two experts.
    assert drafts.shared_by_chance(trace).values.tolist() == [pytest.approx(5 / 12)]


@given(seed=st.integers(0, 10_000), new=st.integers(2, 12))
def test_shares_are_shares_and_accepted_drafts_share_everything(seed: int, new: int) -> None:
    trace = random_trace(seed=seed, num_new=new, drafts=True)
    shared = drafts.shared_experts(trace)
    verified, matches = trace.data["draft_tried"], drafts.matches(trace)
    assert np.array_equal(shared.notnull().all("moe_layer"), verified)
    assert bool((shared.where(verified & matches, 1) == 1).all())
    chance = drafts.shared_by_chance(trace).values
    assert ((chance >= 0) & (chance <= 1)).all()
    assert drafts.acceptance(trace).total <= drafts.agreement(trace, ~trace.prompt_mask).total


def pairs(trace: Trace) -> np.ndarray:
    ids = trace.data["expert_id"].values[~trace.prompt_mask.values]
    return np.array([
        np.mean([len({*ids[a, layer]} & {*ids[b, layer]}) / ids.shape[2] for a in range(len(ids)) for b in range(a)])
        for layer in range(ids.shape[1])
    ])  # fmt: skip


@given(seed=st.integers(0, 10_000), new=st.integers(2, 9))
def test_chance_is_the_mean_over_all_pairs(seed: int, new: int) -> None:
    trace = random_trace(seed=seed, num_new=new, drafts=True)
    assert np.allclose(drafts.shared_by_chance(trace).values, pairs(trace))


def test_one_new_token_has_no_chance_figure() -> None:
    assert np.isnan(drafts.shared_by_chance(random_trace(num_new=1, drafts=True)).values).all()


def test_trace_refuses_a_draft_sent_to_an_expert_that_is_not_there() -> None:
    trace = random_trace(drafts=True)
    data = trace.data.copy(deep=True)
    data["draft_expert_id"][-1, 0, 0] = 99
    with pytest.raises(TraceError, match="names expert 99 of a model with 8"):
        dataclasses.replace(trace, data=data)
