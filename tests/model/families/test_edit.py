"""Edits against the own network's router: same routing, same refusals, over random interventions.

The edits of all families are checked on running models in `test_seam.py`.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from model.families.edit import edits, missing
from model.families.found import BlockRouter, Found
from model.families.tape import RawRouting
from model.network.config import ModelConfig
from model.network.edit import EditError
from model.network.moe import Router
from model.run.interventions import (
    BiasOff,
    ForceExpert,
    GateTemperature,
    GroupLimitOff,
    Intervention,
    KnockOut,
    Replay,
    ScoreThreshold,
    TopK,
)
from model.run.request import RequestError
from model.run.routing_edit import routing_edit
from model.trace.router_rule import RouterRule
from tests.models import tiny_config

FAMILIES: dict[str, dict[str, Any]] = {
    "V3": {},
    "V2": dict(model_type="deepseek_v2", scoring="softmax", selection="group_limited_greedy", normalise_weights=False),
}
LAYERS, TOKENS = {1: "layers.1", 2: "layers.2"}, 12


@functools.cache
def routers(family: str) -> tuple[ModelConfig, dict[int, Router]]:
    """The routers of two layers of the own network, with random weights and biases."""
    config, generator = tiny_config(num_layers=3, **FAMILIES[family]), torch.Generator().manual_seed(1)
    made = {layer: Router(config) for layer in LAYERS}
    for router in made.values():
        router.weight.data.normal_(0, 0.3, generator=generator)
        if config.has_selection_bias:
            router.expert_bias.normal_(0, 0.2, generator=generator)
    return config, made


def found_of(family: str) -> Found:
    """The rule of the own network, as a search would find it."""
    config, made = routers(family)
    rule = RouterRule(
        num_experts=config.num_experts, top_k=config.top_k, num_groups=config.num_groups,
        num_kept_groups=config.num_kept_groups, scoring=config.scoring, has_selection_bias=config.has_selection_bias,
        scores_per_group=2 if config.has_selection_bias else 1, normalise_weights=config.normalise_weights,
        routed_scale=config.routed_scale,
    )  # fmt: skip
    biases = {layer: router.expert_bias.numpy() if rule.has_selection_bias else None for layer, router in made.items()}
    sizes = (config.num_experts, config.num_experts, config.top_k)
    return Found(rule=rule, blocks={LAYERS[layer]: BlockRouter(*sizes, bias_C=bias) for layer, bias in biases.items()})


def own(family: str, x_TD: torch.Tensor, changes: Sequence[Intervention] = ()) -> dict[int, RawRouting]:
    """Return the routing of the own network under the changes."""
    config, made = routers(family)
    edit = routing_edit(changes, config, x_TD.device)
    decisions = {layer: router(x_TD, edit and edit.of(layer)) for layer, router in made.items()}
    with torch.no_grad():
        return {
            layer: RawRouting(x_TD @ made[layer].weight.T, decided.expert_ids_TK, decided.weights_TK.detach())
            for layer, decided in decisions.items()
        }


layers = st.sampled_from([1, 2]) | st.sampled_from([0, 1, 2, 3])
experts = st.integers(0, 15) | st.integers(-1, 16)
changes = st.one_of(
    st.builds(KnockOut, layers, experts),
    st.builds(ForceExpert, layers, experts),
    st.builds(TopK, st.integers(1, 6) | st.integers(0, 17)),
    st.builds(BiasOff, st.none() | layers),
    st.builds(GroupLimitOff, st.none() | layers),
    st.builds(GateTemperature, st.sampled_from([0.5, 1.0, 3.0]), st.none() | layers),
    st.builds(ScoreThreshold, st.sampled_from([0.0, 0.3, 0.6]), st.none() | layers),
)


@settings(max_examples=100)
@given(st.sampled_from(sorted(FAMILIES)), st.lists(changes, max_size=5), st.integers(0, 3))
def test_edits_and_refusals_are_those_of_the_own_network(family: str, wanted: list[Intervention], seed: int) -> None:
    x_TD = torch.randn(TOKENS, routers(family)[0].hidden_size, generator=torch.Generator().manual_seed(seed))
    plain = own(family, x_TD)
    refusal = refusal_of(lambda: routing_edit(wanted, routers(family)[0], x_TD.device))
    assert refusal_of(lambda: edits(wanted, found_of(family), LAYERS)) == refusal
    if refusal is not None:
        return
    expected = own(family, x_TD, wanted)
    made = edits(wanted, found_of(family), LAYERS)
    for layer, raw in plain.items():
        edited = made[LAYERS[layer]](raw, 0) if LAYERS[layer] in made else raw
        assert edited.ids_TK.dtype == torch.int64
        same(edited, expected[layer])
        same_to_the_bit_where_nothing_changed(edited, raw, expected[layer])


def refusal_of(make: Callable[[], object]) -> str | None:
    """Return the message of the error that a call raises, or None."""
    try:
        make()
    except (RequestError, EditError) as error:
        return str(error)
    return None


def same(one: RawRouting, other: RawRouting) -> None:
    """Compare experts and weights, whatever the order of ranks."""
    ranks, other_ranks = one.ids_TK.argsort(-1), other.ids_TK.argsort(-1)
    assert torch.equal(one.ids_TK.gather(-1, ranks), other.ids_TK.gather(-1, other_ranks))
    weights, expected = one.weights_TK.gather(-1, ranks), other.weights_TK.gather(-1, other_ranks)
    torch.testing.assert_close(weights, expected, rtol=2e-5, atol=1e-7)


def same_to_the_bit_where_nothing_changed(edited: RawRouting, raw: RawRouting, expected: RawRouting) -> None:
    if edited.ids_TK.shape == raw.ids_TK.shape:
        unchanged_T = (expected.ids_TK == raw.ids_TK).all(-1) & (expected.weights_TK == raw.weights_TK).all(-1)
        assert torch.equal(edited.ids_TK[unchanged_T], raw.ids_TK[unchanged_T])
        assert torch.equal(edited.weights_TK[unchanged_T], raw.weights_TK[unchanged_T])


def replay(ids: Any, layers: tuple[int, ...] = (1,)) -> Replay:
    array = np.repeat(np.asarray(ids)[:, None], len(layers), axis=1)
    weights = np.linspace(0.1, 0.9, array.size).reshape(array.shape)
    values = array.astype("<i2").tobytes(), weights.astype("<f4").tobytes()
    return Replay(layers, len(array), array.shape[-1], *values)


@pytest.mark.parametrize(
    "wanted",
    [
        [replay([[3, 1, 2, 0]]), KnockOut(1, 3)],
        [BiasOff(), replay([[3, 1, 2, 0]])],
        [TopK(2), replay([[3, 1, 2, 0]])],
        [replay([[3, 1, 2, 3]])],
        [replay([[3, 1, 2, 16]])],
        [replay([[3, 1, 2, 0]], (1, 7))],
    ],
)
def test_refused_replays_are_those_of_the_own_network(wanted: list[Intervention]) -> None:
    refusal = refusal_of(lambda: routing_edit(wanted, routers("V3")[0], torch.device("cpu")))
    assert refusal is not None
    assert refusal_of(lambda: edits(wanted, found_of("V3"), LAYERS)) == refusal


def test_replayed_rows_are_taken_exactly_and_the_rest_is_routed_by_the_model() -> None:
    raw = own("V3", torch.randn(6, routers("V3")[0].hidden_size))[1]
    change = replay([[3, 1, 2, 0], [9, 8, 7, 6], [4, 5, 6, 7]])
    made = edits([change], found_of("V3"), LAYERS)
    assert made.keys() == {LAYERS[1]}
    edited = made[LAYERS[1]](raw, 1)  # a pass that starts at token 1
    assert edited.ids_TK[:2].tolist() == [[9, 8, 7, 6], [4, 5, 6, 7]]
    assert torch.equal(edited.weights_TK[:2], torch.from_numpy(change.weight_array[1:, 0].copy()))
    assert torch.equal(edited.ids_TK[2:], raw.ids_TK[2:])
    assert torch.equal(edited.weights_TK[2:], raw.weights_TK[2:])
    later = made[LAYERS[1]](raw, 3)
    assert torch.equal(later.ids_TK, raw.ids_TK)
    assert torch.equal(later.weights_TK, raw.weights_TK)


def test_changes_without_effect_make_no_edit() -> None:
    assert not edits([GateTemperature(1.0), ScoreThreshold(0.0), TopK(4)], found_of("V3"), LAYERS)


def unknown(found: Found) -> Found:
    """The same model when only its experts follow from a rule."""
    assert found.rule is not None
    return dataclasses.replace(
        found, rule=dataclasses.replace(found.rule, normalise_weights=None, routed_scale=None), reason="some reason"
    )


def test_without_a_rule_a_knocked_out_expert_keeps_its_place_with_weight_0() -> None:
    raw = own("V3", torch.randn(6, routers("V3")[0].hidden_size))[1]
    expert = int(raw.ids_TK[0, 0])
    for found in (unknown(found_of("V3")), dataclasses.replace(found_of("V3"), rule=None)):
        edited = edits([KnockOut(1, expert)], found, LAYERS)[LAYERS[1]](raw, 0)
        assert torch.equal(edited.ids_TK, raw.ids_TK)
        assert torch.equal(edited.weights_TK, raw.weights_TK.masked_fill(raw.ids_TK == expert, 0))
        assert edits([replay([[3, 1, 2, 0]])], found, LAYERS)[LAYERS[1]](raw, 0).ids_TK[0].tolist() == [3, 1, 2, 0]
        for change in (
            ForceExpert(1, 0),
            TopK(2),
            BiasOff(),
            GroupLimitOff(2),
            GateTemperature(2),
            ScoreThreshold(0.1),
        ):
            reason = missing(found)[type(change).__name__]
            with pytest.raises(RequestError, match=rf"layer \d: {reason}"):
                edits([change], found, LAYERS)


def test_what_a_router_lacks_is_missing() -> None:
    assert missing(found_of("V3")) == {}
    assert missing(found_of("V2")) == {"BiasOff": "this router has no bias to leave out"}
    plain = found_of("V2")
    assert plain.rule is not None
    probabilities = dataclasses.replace(plain, rule=dataclasses.replace(plain.rule.ungrouped, scoring="identity"))
    assert missing(probabilities).keys() == {"BiasOff", "GroupLimitOff", "GateTemperature"}
    with pytest.raises(RequestError, match="layer 1: this router returns probabilities"):
        edits([GateTemperature(2.0)], probabilities, LAYERS)


TABLE = np.array([[0, 1, 2], [3, 2, 1]])


def table_model(rule: RouterRule | None = None) -> tuple[Found, RawRouting]:
    """A block whose experts follow from a table, with affinities 0.5, 0.25, 0.75 and 0.5 for both tokens."""
    rule = rule or RouterRule(num_experts=4, top_k=3)
    table = BlockRouter(columns=4, slots=4, top_k=3, table=TABLE)
    other = BlockRouter(columns=4, slots=4, top_k=3, bias_C=np.zeros(4, np.float32))
    affinity = torch.tensor([[0.5, 0.25, 0.75, 0.5]] * 2)
    ids = torch.from_numpy(TABLE)
    weights = affinity.gather(-1, ids) / 1.5
    return Found(rule=rule, blocks={"a": table, "b": other}), RawRouting(affinity.logit(), ids, weights)


def edited(found: Found, raw: RawRouting, *wanted: Intervention) -> RawRouting:
    return edits(wanted, found, {0: "a", 3: "b"})["a"](raw, 0)


def test_where_a_table_gives_the_experts_the_others_share_the_weight_of_a_knocked_out_one() -> None:
    found, raw = table_model()
    gone = edited(found, raw, KnockOut(0, 0))
    assert torch.equal(gone.ids_TK, raw.ids_TK)
    torch.testing.assert_close(gone.weights_TK[0], torch.tensor([0, 0.25, 0.75]))
    assert torch.equal(gone.weights_TK[1], raw.weights_TK[1])
    alone = edited(found, raw, *(KnockOut(0, expert) for expert in range(4)))
    assert not alone.weights_TK.any()


def test_where_a_table_gives_the_experts_a_smaller_top_k_keeps_the_best_of_them() -> None:
    found, raw = table_model()
    fewer = edited(found, raw, TopK(2))
    assert fewer.ids_TK.tolist() == [[0, 2], [3, 2]]
    torch.testing.assert_close(fewer.weights_TK, torch.tensor([[0.4, 0.6]] * 2))
    low = edited(found, raw, ScoreThreshold(0.4, 0))
    torch.testing.assert_close(low.weights_TK, torch.tensor([[0.4, 0, 0.6], [0.4, 0.6, 0]]))
    hot = edited(found, raw, GateTemperature(1e6, 0))
    torch.testing.assert_close(hot.weights_TK, torch.full((2, 3), 1 / 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (ForceExpert(0, 1), "layer 0: a table gives the experts by token id; none can be forced"),
        (BiasOff(0), "layer 0: a table gives the experts by token id; no bias or group limit takes part"),
        (TopK(4), "layer 0: a table gives the experts by token id, 3 for each token; top-k 4 is too many"),
        (KnockOut(1, 1), "layer 1 has no router; MoE layers are 0 to 3"),
    ],
)
def test_changes_that_a_table_does_not_allow_are_refused(change: Intervention, message: str) -> None:
    with pytest.raises(RequestError, match=f"^{message}$"):
        edited(table_model()[0], table_model()[1], change)
    assert edits([BiasOff()], table_model()[0], {0: "a", 3: "b"}).keys() == {"b"}


def test_a_choice_that_computes_nothing_can_be_forced_and_knocked_out() -> None:
    """Zaya: the last of three columns reaches the experts as expert 0 with weight 0; here it has the best score."""
    rule = RouterRule(num_experts=3, top_k=1, scoring="softmax", normalise_weights=False, has_selection_bias=False)
    found = Found(rule=rule, blocks={"a": BlockRouter(columns=3, slots=2, top_k=1)})
    raw = RawRouting(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[2]]), torch.tensor([[0.0]]))
    without = edits([KnockOut(0, 2)], found, {0: "a"})["a"](raw, 0)
    assert without.ids_TK.tolist() == [[1]]
    torch.testing.assert_close(without.weights_TK, torch.tensor([[0.24472847]]))
    elsewhere = edits([KnockOut(0, 1)], found, {0: "a"})["a"](raw, 0)
    assert (elsewhere.ids_TK.tolist(), elsewhere.weights_TK.tolist()) == ([[2]], [[0.0]])
    back = edits([ForceExpert(0, 2)], found, {0: "a"})["a"](without, 0)
    assert (back.ids_TK.tolist(), back.weights_TK.tolist()) == ([[2]], [[0.0]])
