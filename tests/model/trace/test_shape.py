"""The stated shape and router of a trace: what is read, and what is refused in one line."""

import dataclasses
from typing import Any

import pytest

from model.trace.shape import RouterFacts, Shape
from model.trace.trace import Trace, TraceError
from tests.traces import QWEN3, family_trace, random_trace


def stating(trace: Trace | None = None, **entries: Any) -> Trace:
    """Return the trace with other entries of its model; a value of an entry that is a dict replaces some fields."""
    trace = trace or family_trace()
    changed = {
        name: dict(trace.model[name]) | value if isinstance(value, dict) else value for name, value in entries.items()
    }
    return dataclasses.replace(trace, model=dict(trace.model) | changed)


def test_stated_shape_counts_and_may_hold_more() -> None:
    shape = stating(shape={"num_layers": 3, "streams": 4}).shape
    assert (shape.num_layers, shape.moe_layers, shape.num_experts, shape.top_k) == (3, (0, 1, 2), 8, 2)
    assert shape.blocks[1] == "model.layers.1.mlp"
    assert Shape.from_json(shape.to_json()) == shape


def test_shape_of_an_older_trace_follows_from_axes_and_configuration() -> None:
    shape = random_trace().shape
    assert (shape.num_layers, shape.moe_layers, shape.num_heads, shape.num_experts) == (3, (1, 2), 2, 8)
    assert (shape.top_k, shape.vocab_size, shape.width, shape.idle_from) == (2, 9, None, None)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, Shape(num_layers=3, moe_layers=(2,), num_experts=None, top_k=None)),
        ({"num_hidden_layers": 5, "n_routed_experts": 8, "hidden_size": "64"},
         Shape(num_layers=5, moe_layers=(2,), num_experts=8)),
        ({"vocab_size": 10**12, "hidden_size": 64, "num_attention_heads": True},
         Shape(num_layers=3, moe_layers=(2,), width=64)),
    ],
)  # fmt: skip
def test_shape_without_recorded_axes_is_the_stated_one(config: dict[str, Any], expected: Shape) -> None:
    assert Shape.of_config(config, {}, (2,)) == expected


def test_layer_numbers_of_a_foreign_file_give_no_endless_list() -> None:
    assert Shape.of_config({}, {}, (10**9,)).num_layers == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layers": 10**9}, "num_layers in the entry shape of the model cannot be 1000000000"),
        ({"num_layers": 2}, "layer axis has 3 entries, the model's num_layers is 2"),
        ({"num_experts": 1 << 20}, "num_experts in the entry shape"),
        ({"num_experts": 9}, "expert axis has 8 entries, the model's num_experts is 9"),
        ({"num_experts": 8.0}, "num_experts in the entry shape of the model cannot be 8.0"),
        ({"top_k": 9}, "top_k in the entry shape"),
        ({"top_k": 3}, "selects 2 of 8 experts, the model's shape says 3 of 8"),
        ({"idle_from": 8}, "idle_from in the entry shape"),
        ({"num_heads": 10**9}, "num_heads in the entry shape"),
        ({"vocab_size": None}, "vocab_size in the entry shape"),
        ({"width": True}, "width in the entry shape of the model cannot be True"),
        ({"moe_layers": [0, 2, 1]}, "moe_layers in the entry shape"),
        ({"moe_layers": [0, 1, 10**9]}, "moe_layers in the entry shape"),
        ({"moe_layers": ["0", "1", "2"]}, "moe_layers in the entry shape"),
        ({"moe_layers": [0, 1, 3]}, "moe_layer axis names the routing block 2, which"),
        ({"blocks": ["a", "b"]}, "blocks in the entry shape"),
        ({"blocks": ["a", "b", "c" * 2_000]}, "blocks in the entry shape"),
        ({"blocks": "abc"}, "blocks in the entry shape"),
    ],
)
def test_shapes_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TraceError, match=message) as refusal:
        stating(shape=changes)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rule": {}}, "a router rule must state"),
        ({"rule": QWEN3.to_json() | {"num_experts": 16}}, "selects 2 of 16 experts, the model's shape says 2 of 8"),
        ({"rule": "sigmoid"}, "a router rule must state"),
        ({"table_layers": [3]}, "table_layers names the routing block 3"),
        ({"table_layers": [True]}, "table_layers in the entry router"),
        ({"table_layers": 0}, "table_layers in the entry router"),
        ({"logit_kind": "score"}, "logit_kind in the entry router of the model cannot be 'score'"),
        ({"block_factor": "1"}, "block_factor in the entry router"),
        ({"block_factor": float("inf")}, "block_factor in the entry router"),
        ({"block_factor": 10**400}, "block_factor in the entry router"),
        ({"note": 3}, "note in the entry router"),
    ],
)
def test_routers_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TraceError, match=message) as refusal:
        stating(router=changes)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"shape": 3}, "the entry shape of the model must be a JSON object, not 3"),
        ({"router": None}, "the entry router of the model must be a JSON object"),
        ({"shape": []}, "the entry shape of the model must be a JSON object"),
    ],
)
def test_entries_must_be_objects(entries: dict[str, Any], message: str) -> None:
    with pytest.raises(TraceError, match=message):
        stating(**entries)


def test_entries_need_every_field_and_each_other() -> None:
    model = dict(family_trace().model)
    without = {name: value for name, value in model.items() if name != "router"}
    with pytest.raises(TraceError, match="both its shape and its router"):
        dataclasses.replace(family_trace(), model=without)
    router = {name: value for name, value in model["router"].items() if name != "note"}
    with pytest.raises(TraceError, match="the entry router of the model lacks note"):
        dataclasses.replace(family_trace(), model=model | {"router": router})


def test_configuration_of_another_family_is_not_read_as_that_of_v3() -> None:
    """LongCat counts fewer experts than its router has columns; other families state a list of heads."""
    config = {"n_routed_experts": 6, "num_attention_heads": [8, 4, 8], "kv_lora_rank": None, "num_hidden_layers": 7}
    assert stating(config=None, shape={"idle_from": 6}).shape.idle_from == 6
    assert (
        dataclasses.replace(family_trace(), model=dict(family_trace().model) | {"config": config}).shape.num_layers == 3
    )
    with pytest.raises(TraceError, match="kv_lora_rank is 'x', not a whole number"):
        dataclasses.replace(family_trace(), model=dict(family_trace().model) | {"config": {"kv_lora_rank": "x"}})


def test_blocks_of_a_layer_are_named_by_their_path() -> None:
    paths = ["model.layers.0.mlp", "model.layers.0.self_attention", "model.layers.1.mlp"]
    shape = stating(shape={"blocks": paths}).shape
    assert [shape.layer_of(label) for label in (0, 1, 2)] == [0, 0, 1]
    assert shape.block_name(2) == "2: model.layers.1.mlp"
    assert [family_trace().shape.layer_of(2), random_trace().shape.layer_of(2)] == [2, 2]
    assert [family_trace().shape.block_name(2), random_trace().shape.block_name(2)] == ["2", "2"]


def test_facts_are_read_back() -> None:
    facts = RouterFacts(rule=QWEN3, table_layers=(0,), logit_kind="probability", block_factor=2.0, note="why")
    assert RouterFacts.from_json(facts.to_json()) == facts
    assert random_trace().router is None
