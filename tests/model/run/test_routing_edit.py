"""What interventions promise, over random models of three families and random requests."""

import dataclasses
import functools
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from model.network.edit import EditError
from model.run.engine import Engine
from model.run.interventions import (
    BiasOff,
    ForceExpert,
    GateTemperature,
    GroupLimitOff,
    KnockOut,
    Replay,
    ScoreThreshold,
    TopK,
    experts_of_group,
)
from model.run.request import Capture, RequestError, RunRequest
from model.trace.trace import Trace
from tests.models import random_model, tiny_config

FAMILIES: dict[str, dict[str, Any]] = {
    "V3": {},
    "V2": dict(model_type="deepseek_v2", scoring="softmax", selection="group_limited_greedy", normalise_weights=False),
    "V3.2": dict(model_type="deepseek_v32", index_heads=2, index_head_dim=16, index_topk=8),
}
SEEN = Capture(frozenset({"router", "logits"}))


@functools.cache
def engine_of(family: str, seed: int = 0) -> Engine:
    config = tiny_config(num_layers=3, vocab_size=64, eos_id=None, **FAMILIES[family])
    engine = Engine(random_model(config, seed), None, family, folder=None)  # type: ignore[arg-type]
    engine.__dict__["_description"] = {"name": family, "config": config.to_json()}
    return engine


engines = st.builds(engine_of, st.sampled_from(sorted(FAMILIES)), st.integers(0, 2))
requests = st.builds(
    RunRequest,
    token_ids=st.lists(st.integers(0, 63), min_size=1, max_size=14).map(tuple),
    max_new_tokens=st.integers(0, 5),
    temperature=st.sampled_from([0.0, 0.9]),
    seed=st.integers(0, 9),
    capture=st.just(SEEN),
)
experts = st.integers(0, 15)
layers = st.integers(1, 2)
few = settings(max_examples=25)


def run(engine: Engine, request: RunRequest, *changes: Any) -> Trace:
    return engine.run(dataclasses.replace(request, interventions=changes))


def same(one: Trace, other: Trace) -> bool:
    """Tokens, logits and routing are the same to the bit."""
    return one.data.identical(other.data) and one.tokens == other.tokens


def layer_of(trace: Trace, layer: int) -> tuple[np.ndarray, np.ndarray]:
    chosen = trace.data.sel(moe_layer=layer)
    return chosen["expert_id"].values, chosen["gate_weight"].values


@few
@given(engines, requests, st.sets(st.tuples(layers, experts), min_size=1, max_size=5))
def test_knocked_out_experts_never_receive_weight(
    engine: Engine, request: RunRequest, chosen: set[tuple[int, int]]
) -> None:
    changed = run(engine, request, *(KnockOut(*one) for one in sorted(chosen)))
    for layer, expert in chosen:
        ids, weights = layer_of(changed, layer)
        assert not weights[ids == expert].any()
        assert expert not in ids


@few
@given(engines, requests, layers, st.sets(experts, min_size=1, max_size=3))
def test_forced_experts_are_exactly_those_asked_for(
    engine: Engine, request: RunRequest, layer: int, forced: set[int]
) -> None:
    changed = run(engine, request, *(ForceExpert(layer, expert) for expert in sorted(forced)))
    chosen = changed.data.sel(moe_layer=layer)
    ids, weights = layer_of(changed, layer)
    assert all((ids == expert).sum(-1).tolist() == [1] * len(ids) for expert in forced)
    scores = np.take_along_axis(chosen["router_score"].values, ids.astype(int), -1)
    if engine.config.normalise_weights:
        scores = scores / scores.sum(-1, keepdims=True)
    assert np.allclose(weights, scores * engine.config.routed_scale, atol=1e-5)


@few
@given(engines, requests, st.integers(2, 4))
def test_replaying_a_runs_own_routing_gives_its_logits_to_the_bit(
    engine: Engine, request: RunRequest, top_k: int
) -> None:
    before = () if top_k == 4 else (TopK(top_k),)
    original = run(engine, request, *before)
    assert same(run(engine, request, *before, Replay.of(original)), original)


@few
@given(engines, requests, requests, st.booleans())
def test_replayed_routing_is_taken_exactly_and_later_tokens_are_routed_by_the_model(
    engine: Engine, request: RunRequest, other: RunRequest, one_layer: bool
) -> None:
    source = run(engine, other)
    replay = Replay.of(source, (2,) if one_layer else None)
    changed = run(engine, request, replay)
    covered = min(source.num_tokens, changed.num_tokens)
    for layer in replay.layers:
        for ours, theirs in zip(layer_of(changed, layer), layer_of(source, layer), strict=True):
            assert np.array_equal(ours[:covered], theirs[:covered])
    beyond = changed.data.isel(token=slice(covered, None)).sel(moe_layer=2)
    scores = np.take_along_axis(beyond["router_score"].values, beyond["expert_id"].values.astype(int), -1)
    if engine.config.normalise_weights:
        scores = scores / scores.sum(-1, keepdims=True)
    assert np.allclose(beyond["gate_weight"], scores * engine.config.routed_scale, atol=1e-5)


@few
@given(engines, requests, st.none() | layers)
def test_temperature_1_and_threshold_0_change_nothing_to_the_bit(
    engine: Engine, request: RunRequest, layer: int | None
) -> None:
    plain = run(engine, request)
    for change in (GateTemperature(1.0, layer), ScoreThreshold(0.0, layer)):
        assert same(run(engine, request, change), plain)


@few
@given(engines, requests, layers, st.integers(0, 3))
def test_a_group_knocked_out_is_never_kept(engine: Engine, request: RunRequest, layer: int, group: int) -> None:
    members = experts_of_group(group, engine.config.num_experts, engine.config.num_groups)
    changed = run(engine, request, *(KnockOut(layer, expert) for expert in members))
    ids, _ = layer_of(changed, layer)
    assert not np.isin(ids, members).any()
    assert not changed.data["group_kept"].sel(moe_layer=layer, group=group).any()


@few
@given(engines, requests, layers, st.floats(0, 1))
def test_no_weight_below_the_threshold_and_the_rest_is_normalised(
    engine: Engine, request: RunRequest, layer: int, threshold: float
) -> None:
    changed = run(engine, request, ScoreThreshold(threshold, layer))
    ids, weights = layer_of(changed, layer)
    scores = np.take_along_axis(changed.data["router_score"].sel(moe_layer=layer).values, ids.astype(int), -1)
    assert ((weights > 0) == (scores >= np.float32(threshold))).all()
    total = weights.sum(-1)[(weights > 0).any(-1)]
    if engine.config.normalise_weights:
        assert np.allclose(total, engine.config.routed_scale, atol=1e-4)


def test_hot_gate_is_led_by_the_bias_and_a_cold_one_by_the_affinity() -> None:
    engine, ids = engine_of("V3"), tuple(range(40))
    request = RunRequest(token_ids=ids, capture=SEEN)
    hot = run(engine, request, GateTemperature(1e6, 1), GroupLimitOff(1))
    ranked = np.argsort(-hot.data["expert_bias"].sel(moe_layer=1).values)[:4]
    assert set(np.unique(layer_of(hot, 1)[0])) == set(ranked)
    cold = run(engine, request, GateTemperature(1e-6, 1))
    assert set(np.unique(cold.data["router_score"].sel(moe_layer=1).values.round(3))) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (lambda own: (own, KnockOut(1, 3)), EditError, "layer 1: its routing is replayed"),
        (lambda own: (own, BiasOff()), EditError, "layer 1: its routing is replayed"),
        (lambda own: (TopK(2), own), EditError, "has 4 experts per token, this run 2"),
        (lambda own: (dataclasses.replace(own, layers=(1, 7)),), RequestError, "layer 7 has no router"),
        (lambda own: (GateTemperature(2.0, 0),), RequestError, "layer 0 has no router"),
    ],
)
def test_replays_that_cannot_be_followed_are_refused(changes: Any, error: type[Exception], message: str) -> None:
    engine, request = engine_of("V3"), RunRequest(token_ids=(1, 2, 3), capture=SEEN)
    with pytest.raises(error, match=message):
        run(engine, request, *changes(Replay.of(run(engine, request))))


def test_replay_of_another_model_is_refused() -> None:
    engine, request = engine_of("V3"), RunRequest(token_ids=(1, 2, 3), capture=SEEN)
    own = Replay.of(run(engine, request))
    ids = np.full_like(own.id_array, 16).astype("<i2").tobytes()
    with pytest.raises(RequestError, match="names expert 16; experts are 0 to 15"):
        run(engine, request, dataclasses.replace(own, expert_ids=ids))


def test_a_replay_records_drafts_but_cannot_verify_them() -> None:
    engine = Engine(random_model(tiny_config(num_layers=3, vocab_size=64, has_mtp=True)), None, "mtp", folder=None)  # type: ignore[arg-type]
    engine.__dict__["_description"] = {"name": "mtp", "config": engine.config.to_json()}
    request = RunRequest(token_ids=(1, 2, 3), max_new_tokens=3, capture=Capture(frozenset({"router", "drafts"})))
    original = run(engine, request)
    replay = Replay.of(original)
    assert run(engine, request, replay).data["draft_id"].identical(original.data["draft_id"])
    with pytest.raises(RequestError, match="cannot verify drafts"):
        run(engine, dataclasses.replace(request, verify_drafts=True), replay)
    torch.testing.assert_close(replay.weight_array.sum(-1), np.full((6, 2), 2.5, np.float32))
