"""Requests: what they refuse, and that a trace file can keep them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.run.interventions import (
    BiasOff,
    ForceExpert,
    GateTemperature,
    GroupLimitOff,
    KnockOut,
    Replay,
    ScoreThreshold,
    TopK,
)
from model.run.request import LEAST_TEMPERATURE, Capture, RequestError, RunRequest
from tests.traces import random_trace

layers = st.integers(0, 60)
interventions = st.one_of(
    st.builds(KnockOut, layers, st.integers(0, 255)),
    st.builds(ForceExpert, layers, st.integers(0, 255)),
    st.builds(TopK, st.integers(1, 8)),
    st.builds(BiasOff, st.none() | layers),
    st.builds(GroupLimitOff, st.none() | layers),
    st.builds(GateTemperature, st.floats(0.01, 9), st.none() | layers),
    st.builds(ScoreThreshold, st.floats(0, 1), st.none() | layers),
    st.integers(0, 3).map(lambda seed: Replay.of(random_trace(seed))),
)
requests = st.builds(
    RunRequest,
    prompt=st.text(min_size=1),
    max_new_tokens=st.integers(0, 99),
    temperature=st.just(0.0) | st.floats(LEAST_TEMPERATURE, 5),
    top_p=st.floats(0.01, 1),
    top_k=st.integers(0, 50),
    seed=st.integers(0, 2**63 - 1),
    verify_drafts=st.booleans(),
    capture=st.builds(Capture, st.frozensets(st.sampled_from(["router", "inputs"])), st.none() | st.just((1, 3))),
    interventions=st.lists(interventions, max_size=4).map(tuple),
)


@given(requests)
def test_json_round_trip_keeps_value_and_hash(request: RunRequest) -> None:
    again = RunRequest.from_json(request.to_json())
    assert again == request
    assert hash(again) == hash(request)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "either a prompt or token ids"),
        ({"prompt": "a", "token_ids": (1,)}, "either a prompt or token ids"),
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt": "a", "max_new_tokens": -1}, "must not be negative"),
        ({"prompt": "a", "temperature": float("nan")}, "temperature must be 0 or more"),
        ({"prompt": "a", "temperature": 1e-40}, "temperature must be 0 or more, if more then from 0.0001 on"),
        ({"prompt": "a", "seed": -1}, r"seed must be from 0 to 2\^63 - 1"),
        ({"prompt": "a", "seed": 2**63}, r"seed must be from 0 to 2\^63 - 1"),
        ({"prompt": "a", "top_p": 0}, "top-p must be above 0"),
        ({"prompt": "a", "top_k": -1}, "top-k must be 0"),
        ({"token_ids": (1,), "chat": True}, "only a prompt can be put as a question"),
    ],
)
def test_refusals(values: dict, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        RunRequest(**values)


def test_unknown_capture_is_refused_with_the_choices() -> None:
    with pytest.raises(RequestError, match="cannot capture mood; choose from router, attention"):
        Capture(frozenset({"mood"}))


@pytest.mark.parametrize("plain", [{}, {"prompt": "a"}, RunRequest(prompt="a").to_json() | {"mood": 1}])
def test_foreign_json_is_refused(plain: dict) -> None:
    with pytest.raises(RequestError):
        RunRequest.from_json(plain)
