"""The control: as many random experts of equal load, always the same for a question, and honest where there are few."""

import dataclasses
from typing import Any

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

from model.run.control import TOLERANCE, Control, control
from model.run.interventions import (
    BiasOff,
    ForceExpert,
    GateTemperature,
    KnockOut,
    Replay,
    ScoreThreshold,
    TopK,
    experts_of_group,
)
from model.run.request import RunRequest
from model.trace.effects import taken
from model.trace.metrics import tokens_per_expert
from model.trace.trace import Trace
from tests.model.run.test_routing_edit import SEEN, engine_of, run
from tests.traces import random_trace


def draws_for(trace: Trace, *changes: Any, changed: Trace | None = None, seed: int = 0) -> Control:
    return control(trace, changed or trace, changes, lambda draw: True, seed=seed)


def with_loads(*loads: int) -> Trace:
    """A trace of one expert per token and layer, of these loads in layer 1."""
    trace = random_trace(num_prompt=sum(loads), num_new=0, num_experts=len(loads), num_groups=1, num_kept=1, top_k=1)
    ids = trace.data["expert_id"].values.copy()
    ids[:, 0, 0] = np.repeat(np.arange(len(loads)), loads)
    return dataclasses.replace(trace, data=trace.data.assign(expert_id=(trace.data["expert_id"].dims, ids)))


def test_draws_are_other_experts_of_the_layer_with_a_load_within_a_fifth() -> None:
    trace = with_loads(10, 12, 8, 13, 7, 11, 9, 10, 10, 12, 8, 10, 3)
    found = draws_for(trace, KnockOut(1, 0))
    experts = [change.expert for (change,) in found.draws]
    assert len(set(experts)) == len(experts) == 8
    assert set(experts) <= {1, 2, 5, 6, 7, 8, 9, 10, 11}
    assert (found.farthest, found.share_beyond) == (0.2, 0)
    assert {(type(change), change.layer) for (change,) in found.draws} == {(KnockOut, 1)}
    assert draws_for(trace, KnockOut(1, 0)) == found
    assert draws_for(trace, KnockOut(1, 0), seed=1) != found
    assert {type(change) for (change,) in draws_for(trace, ForceExpert(1, 0)).draws} == {ForceExpert}


def test_too_few_of_equal_load_are_widened_and_said() -> None:
    found = draws_for(with_loads(20, 20, 17, 10, 10, 10, 10, 9, 31, 50), KnockOut(1, 0))
    assert len(found.draws) == 8
    assert found.farthest == 0.55
    assert found.share_beyond == 6 / 8  # but 20 and 17


def test_fewer_experts_than_draws_give_as_many_as_there_are() -> None:
    found = draws_for(with_loads(5, 5, 9), KnockOut(1, 0))
    assert sorted(change.expert for (change,) in found.draws) == [1, 2]


def test_a_set_is_matched_by_sets_and_none_comes_twice() -> None:
    trace = with_loads(10, 20, 10, 10, 20, 20, 11, 9, 19, 21)
    found = draws_for(trace, KnockOut(1, 0), KnockOut(1, 1))
    sets = [frozenset(change.expert for change in draw) for draw in found.draws]
    assert len(set(sets)) == 8
    assert all(len(one & {2, 3, 6, 7}) == len(one & {4, 5, 8, 9}) == 1 for one in sets)
    assert found.share_beyond == 0


def test_a_set_that_has_no_equals_takes_the_nearest() -> None:
    trace = with_loads(40, 30, 24, 23, 22, 21, 20, 19, 18, 2, 1)
    found = draws_for(trace, KnockOut(1, 0), KnockOut(1, 1))
    assert len(found.draws) == 8
    assert {change.expert for draw in found.draws for change in draw} <= {2, 3, 4, 5, 6, 7}
    assert 0 < found.share_beyond <= 1


def test_a_layer_without_other_experts_has_no_control() -> None:
    trace = with_loads(5, 5, 5, 5)
    assert draws_for(trace, *(KnockOut(1, expert) for expert in range(3))).draws == ()


def test_draws_that_no_run_can_have_are_left_out() -> None:
    trace = with_loads(*[10] * 12)
    found = control(trace, trace, (KnockOut(1, 0),), lambda draw: draw[0].expert % 2 == 0)  # type: ignore[union-attr]
    assert {change.expert for (change,) in found.draws} == {2, 4, 6, 8, 10}  # type: ignore[union-attr]


def test_a_whole_group_is_matched_by_as_many_others() -> None:
    trace = random_trace(num_prompt=80, num_experts=32, num_groups=4, top_k=4)
    group = experts_of_group(1, 32, 4)
    found = draws_for(trace, *(KnockOut(1, expert) for expert in group))
    assert len(found.draws) == 8
    for draw in found.draws:
        assert len({change.expert for change in draw}) == 8
        assert not {change.expert for change in draw} & set(group)


changes = st.one_of(
    st.builds(GateTemperature, st.sampled_from([0.3, 3.0]), st.none() | st.just(1)),
    st.builds(ScoreThreshold, st.floats(0.2, 0.9), st.none() | st.just(2)),
    st.builds(TopK, st.sampled_from([2, 3, 5, 6])),
    st.builds(BiasOff, st.none() | st.just(2)),
)


@settings(max_examples=20)
@given(st.sampled_from(["V3", "V2"]), changes, st.integers(0, 3))
def test_rerouting_exchanges_as_many_experts_of_every_token(family: str, change: Any, seed: int) -> None:
    engine = engine_of(family)
    ids = tuple(np.random.default_rng(seed).integers(0, 64, 30).tolist())
    request = RunRequest(token_ids=ids, capture=SEEN)
    original, changed = run(engine, request), run(engine, request, change)
    found = draws_for(original, change, changed=changed)
    layer = getattr(change, "layer", None)
    layers = [1, 2] if layer is None else [layer]
    before, after = (taken(trace, 16)[:, [one - 1 for one in layers]] for trace in (original, changed))
    assert bool(found.draws) == bool((before != after).any())
    for draw in found.draws:
        *other, replay = draw
        assert isinstance(replay, Replay)
        assert replay.layers == tuple(layers)
        drawn = run(engine, request, *draw)  # a run can have it
        now = taken(drawn, 16)[:, [one - 1 for one in layers]]
        assert np.array_equal((now & before).sum(-1), (after & before).sum(-1))
        assert np.array_equal((now & ~before).sum(-1), (after & ~before).sum(-1))
        for one in layers:
            assert np.array_equal(
                drawn.data["gate_weight"].sel(moe_layer=one), changed.data["gate_weight"].sel(moe_layer=one)
            )
        assert other == ([change] if isinstance(change, TopK) else [])
    loads = tokens_per_expert(original.data["expert_id"], 16)
    assert found.share_beyond == 0 or found.farthest > TOLERANCE
    assert loads.sum() == 30 * 4 * 2


def test_a_change_of_weights_alone_has_no_such_control() -> None:
    engine, request = engine_of("V3"), RunRequest(token_ids=tuple(range(12)), capture=SEEN)
    original = run(engine, request)
    assert draws_for(original, Replay.of(original), changed=original) == Control((), 0.0, 0.0)
