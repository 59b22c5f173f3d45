"""The control: random experts changed for equally many tokens, always the same for a question."""

import dataclasses
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from model.run.control import DRAWS, Control, LayerRouter, control, named_experts, other_sets, tokens_to_match
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
from model.trace.effects import effect, taken
from model.trace.router_rule import RouterRule
from model.trace.trace import Trace
from tests.model.run.test_routing_edit import SEEN, engine_of, run
from tests.traces import QWEN3, V4, family_trace, random_trace


def draws_for(trace: Trace, *changes: Any, changed: Trace | None = None, draws: int = DRAWS, seed: int = 0) -> Control:
    return control(trace, changed or trace, changes, lambda draw: True, draws, seed)


def rerouted(one: Trace, other: Trace, layer: int) -> np.ndarray:
    """Mask of tokens with other experts in the layer."""
    first, second = (np.sort(trace.data["expert_id"].sel(moe_layer=layer).values, -1) for trace in (one, other))
    return (first != second).any(-1)


@settings(max_examples=8)
@given(
    st.sampled_from(["V3", "V2"]), st.sampled_from([KnockOut, ForceExpert]), st.integers(1, 2), st.integers(0, 15),
    st.integers(0, 3),
)  # fmt: skip
def test_a_draw_changes_one_other_expert_for_equally_many_tokens(
    family: str, kind: Any, layer: int, expert: int, seed: int
) -> None:
    engine, ids = engine_of(family), tuple(np.random.default_rng(seed).integers(0, 64, 40).tolist())
    request = RunRequest(token_ids=ids, capture=SEEN)
    original, changed = run(engine, request), run(engine, request, kind(layer, expert))
    found = draws_for(original, kind(layer, expert))
    assert found.num_rerouted == rerouted(original, changed, layer).sum()
    assert bool(found.draws) == bool(found.num_rerouted)
    assert (found.repeated is None) == (found.num_matched == found.num_rerouted)
    alone = [run(engine, request, kind(layer, other)) for other in range(16) if other != expert]
    for draw in (*found.draws, *([found.repeated] if found.repeated else [])):
        drawn = run(engine, request, *draw)
        changes = rerouted(original, drawn, layer)
        assert changes.sum() == found.num_matched
        sources = [changed] if draw == found.repeated else alone
        routed = [np.sort(trace.data["expert_id"].sel(moe_layer=layer).values, -1) for trace in (*sources, drawn)]
        assert any(np.array_equal(source[changes], routed[-1][changes]) for source in routed[:-1])


def test_a_knock_out_of_all_its_tokens_is_the_knock_out_itself() -> None:
    engine, request = engine_of("V3"), RunRequest(token_ids=tuple(range(40)), capture=SEEN)
    original, changed = run(engine, request), run(engine, request, KnockOut(1, 3))
    router = LayerRouter(original, KnockOut(1, 3))
    replayed = run(engine, request, *router.change((3,), 40, np.random.default_rng(0)))
    moved = effect(original, changed)["kl"].values
    assert moved.max() > 1e-4
    assert np.allclose(effect(original, replayed)["kl"].values, moved, rtol=1e-3, atol=1e-9)


def test_the_same_change_has_the_same_control() -> None:
    trace = random_trace(num_prompt=80, num_experts=32, num_groups=4, top_k=4)
    assert draws_for(trace, KnockOut(1, 0)) == draws_for(trace, KnockOut(1, 0))
    assert draws_for(trace, KnockOut(1, 0)) != draws_for(trace, KnockOut(1, 0), seed=1)


@pytest.mark.parametrize(
    ("counts", "target", "matched"),
    [
        ([30] * 25, 20, 20),  # 19 others reroute as many
        ([30] * 10 + [12] * 15, 20, 12),  # 19 others reroute 12
        ([30] * 10 + [12] * 5 + [4] * 9, 20, 20),  # 19 leave 4, below a quarter; 9 reroute 20
        ([30, 20, 10, 9, 8, 7, 6, 5, 2, 1, 0], 40, 2),  # neither 19 nor 9 leave a quarter: the nine largest
        ([5, 0, 3], 20, 3),
        ([0, 0], 20, 0),
        ([], 20, 0),
    ],
)
def test_as_many_tokens_are_matched_as_enough_others_reroute(counts: list[int], target: int, matched: int) -> None:
    assert tokens_to_match(counts, target) == matched


def test_a_set_is_matched_by_sets_of_others_without_a_common_expert() -> None:
    trace = random_trace(num_prompt=80, num_experts=32, num_groups=4, top_k=4)
    group = experts_of_group(1, 32, 4)
    found = draws_for(trace, *(KnockOut(1, expert) for expert in group))
    assert 1 <= len(found.draws) <= 3
    sets = other_sets(32, (0, 5, 9), np.random.default_rng(0))
    assert [len(one) for one in sets] == [3] * 9
    assert len({expert for one in sets for expert in one} - {0, 5, 9}) == 27
    assert other_sets(4, (0, 1, 2), np.random.default_rng(0)) == []


def test_draws_that_no_run_can_have_are_left_out() -> None:
    trace = random_trace(num_prompt=80, num_experts=32, num_groups=4, top_k=4)
    seen = set[int]()

    def allowed(draw: tuple[Any, ...]) -> bool:
        seen.add(draw[0].expert)
        return draw[0].expert % 2 == 0

    assert len(control(trace, trace, (KnockOut(1, 0),), allowed).draws) <= 15
    assert seen == set(range(1, 32))


def test_experts_of_two_layers_are_controlled_token_by_token() -> None:
    engine, request = engine_of("V3"), RunRequest(token_ids=tuple(range(30)), capture=SEEN)
    changes = KnockOut(1, 3), KnockOut(2, 5)
    assert named_experts(changes) == named_experts((KnockOut(1, 3), ForceExpert(1, 4))) == ()
    assert named_experts((*changes[:1], TopK(2))) == ()
    original, changed = run(engine, request), run(engine, request, *changes)
    found = draws_for(original, *changes, changed=changed, draws=3)
    assert {type(change) for draw in found.draws for change in draw} == {Replay}
    assert len(found.draws) == 3


changes = st.one_of(
    st.builds(GateTemperature, st.sampled_from([0.3, 3.0]), st.none() | st.just(1)),
    st.builds(ScoreThreshold, st.floats(0.2, 0.9), st.none() | st.just(2)),
    st.builds(TopK, st.sampled_from([2, 3, 5, 6])),
    st.builds(BiasOff, st.none() | st.just(2)),
)


@settings(max_examples=12)
@given(st.sampled_from(["V3", "V2"]), changes, st.integers(0, 3))
def test_rerouting_exchanges_as_many_experts_of_every_token(family: str, change: Any, seed: int) -> None:
    engine = engine_of(family)
    ids = tuple(np.random.default_rng(seed).integers(0, 64, 30).tolist())
    request = RunRequest(token_ids=ids, capture=SEEN)
    original, changed = run(engine, request), run(engine, request, change)
    found = draws_for(original, change, changed=changed, draws=4)
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
    assert 0 <= found.share_beyond <= 1


def test_a_change_of_weights_alone_has_no_such_control() -> None:
    engine, request = engine_of("V3"), RunRequest(token_ids=tuple(range(12)), capture=SEEN)
    original = run(engine, request)
    assert draws_for(original, Replay.of(original), changed=original) == Control(())


# --- routers of other families ---------------------------------------------------------------------------------------


def test_tokens_that_a_draw_leaves_keep_the_routers_order() -> None:
    trace = family_trace(dataclasses.replace(QWEN3, top_k=3), num_prompt=40)
    router = LayerRouter(trace, ForceExpert(2, 5))
    (replay,) = router.change((5,), 4, np.random.default_rng(0))
    same = replay.id_array[:, 0] == Replay.of(trace, (2,)).id_array[:, 0]
    assert (~same.all(-1)).sum() == min(4, router.rerouted((5,)).sum())


@pytest.mark.parametrize("rule", [None, V4])
def test_expert_that_no_other_replaces_is_controlled_token_by_token(rule: RouterRule | None) -> None:
    """Without a rule, or where experts follow from the token id, it keeps its place with weight 0."""
    trace = family_trace(rule, num_prompt=40, table_layers=(1,))
    weights = np.where(trace.data["expert_id"].sel(moe_layer=1) == 3, 0, trace.data["gate_weight"].sel(moe_layer=1))
    data = trace.data.copy(deep=True)
    data["gate_weight"].loc[{"moe_layer": 1}] = weights
    changed = dataclasses.replace(trace, data=data)
    found = draws_for(trace, KnockOut(1, 3), changed=changed, draws=3)
    assert (len(found.draws), found.num_rerouted) == (3, 0)
    for (replay,) in found.draws:
        assert isinstance(replay, Replay)
        assert (replay.weight_array == 0).sum() == (weights == 0).sum()
