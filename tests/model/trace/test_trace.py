"""Data that a trace accepts and refuses; a trace file gives back the same trace."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

from model.trace.file import dumps, loads
from model.trace.trace import Token, Trace, TraceError
from tests.traces import family_trace, random_trace


def single_token(**variables: tuple) -> xr.Dataset:
    return xr.Dataset({"token_id": ("token", np.zeros(1, np.int32))} | variables)


def same(one: Trace, other: Trace) -> bool:
    plain = ("tokens", "text", "request", "model", "origin")
    return one.data.identical(other.data) and all(getattr(one, name) == getattr(other, name) for name in plain)


def test_arrays_are_read_only_and_the_dataset_is_its_own() -> None:
    trace = random_trace()
    with pytest.raises(ValueError, match="read-only"):
        trace.data["router_score"].values[0, 0, 0] = 1
    original = single_token()
    kept = Trace(original, (Token(0, "a", 0, 1, False),), b"a", {}, {}, {})
    original["logprob"] = ("token", np.zeros(1, np.float32))
    assert not kept.has("logprob")


def test_layers_are_asked_for_by_model_number() -> None:
    trace = random_trace()
    assert trace.data["expert_id"].sel(moe_layer=1).dims == ("token", "rank")
    with pytest.raises(KeyError):
        trace.data["expert_id"].sel(moe_layer=0)


def test_masks() -> None:
    trace = random_trace(num_prompt=3, num_new=2)
    assert trace.prompt_mask.values.tolist() == [True, True, True, False, False]
    assert trace.special_mask.values.tolist() == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": xr.Dataset({"mood": ("token", np.zeros(2))})}, "no variable 'mood'"),
        ({"data": xr.Dataset({"logprob": ("token", np.zeros(2, np.float32))})}, "needs at least token_id"),
        ({"data": xr.Dataset({"token_id": ("token", np.zeros(2, np.int64))})}, "token_id is int64, not int32"),
        ({"data": xr.Dataset({"token_id": ("query", np.zeros(2, np.int32))})}, "axes query, not token"),
        ({"data": xr.Dataset({"token_id": ("token", np.zeros(3, np.int32))})}, "3 entries for 2 tokens"),
        ({"data": xr.Dataset({"token_id": ("token", np.zeros(0, np.int32))}), "tokens": ()}, "at least one token"),
        ({"tokens": (Token(1, "a", 0, 1, False), Token(3, "b", 1, 2, False))}, "token 1 has the id 3, but .* says 2"),
        ({"text": b"abc"}, "span 2 bytes of a text of 3"),
        ({"tokens": (Token(1, "a", 0, 1, False), Token(2, "b", 2, 3, False))}, "token 1 spans bytes 2 to 3, but 1"),
    ],
)
def test_refusals_say_what_is_wrong(changes: dict, message: str) -> None:
    parts = {
        "data": xr.Dataset({"token_id": ("token", np.array([1, 2], np.int32))}),
        "tokens": (Token(1, "a", 0, 1, False), Token(2, "b", 1, 2, False)),
        "text": b"ab",
    }
    with pytest.raises(TraceError, match=message):
        Trace(**(parts | changes), request={}, model={}, origin={})


def test_layer_axis_needs_labels() -> None:
    data = single_token(residual_norm=(("token", "layer"), np.ones((1, 2), np.float32)))
    with pytest.raises(TraceError, match="the layer axis needs the model's layer numbers"):
        Trace(data, (Token(0, "a", 0, 1, False),), b"a", {}, {}, {})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"layer": ["a", "b"]}, "layer axis must be ascending whole numbers"),
        ({"layer": [1, 1]}, "layer axis must be ascending whole numbers"),
        ({"layer": [-1, 0]}, "layer axis must be ascending whole numbers"),
        ({"layer": [0, 1], "mood": [0]}, "no axis 'mood' to label"),
    ],
)
def test_labels_must_be_layer_numbers(labels: dict, message: str) -> None:
    data = single_token(residual_norm=(("token", "layer"), np.ones((1, 2), np.float32))).assign_coords(labels)
    with pytest.raises(TraceError, match=message):
        Trace(data, (Token(0, "a", 0, 1, False),), b"a", {}, {}, {})


@pytest.mark.parametrize(
    ("expert", "kind", "config", "message"),
    [
        (32, "imported", {"n_routed_experts": 32}, "expert_id names expert 32 of a model with 32"),
        (-2, "imported", {"n_routed_experts": 32}, "expert_id names expert -2"),
        (-1, "measured", {"n_routed_experts": 32}, "expert_id names expert -1"),
        (0, "measured", {"n_routed_experts": 10**9}, "cannot have 1000000000 routed experts"),
        (0, "measured", {"num_hidden_layers": 7}, "layer axis has 1 entries, the model's num_hidden_layers is 7"),
    ],
)
def test_experts_must_be_the_models(expert: int, kind: str, config: dict, message: str) -> None:
    data = single_token(
        expert_id=(("token", "moe_layer", "rank"), np.full((1, 1, 1), expert, np.int16)),
        residual_norm=(("token", "layer"), np.ones((1, 1), np.float32)),
    ).assign_coords(layer=[3], moe_layer=[3])
    with pytest.raises(TraceError, match=message):
        Trace(data, (Token(0, "a", 0, 1, False),), b"a", {}, {"config": config}, {"kind": kind})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_attention_heads", "8"),
        ("num_attention_heads", 10**9),
        ("num_attention_heads", True),
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", None),
        ("num_experts_per_tok", 4.5),
        ("index_topk", -1),
        ("kv_lora_rank", [512]),
    ],
)
def test_counts_of_the_configuration_must_be_sane(key: str, value: object) -> None:
    with pytest.raises(TraceError, match=f"the model's {key} is .*, not a whole number from 0 to"):
        Trace(single_token(), (Token(0, "a", 0, 1, False),), b"a", {}, {"config": {key: value}}, {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("KnockOut", "must be a JSON object, not 'KnockOut'"),
        ({"kind": "KnockOut", "layer": [1]}, "must name layers by whole numbers"),
        ({"kind": "Replay", "layers": 3}, "must name layers by whole numbers"),
        ({"kind": "Replay", "layers": [None]}, "must name layers by whole numbers"),
    ],
)
def test_interventions_must_be_objects_that_name_layers(change: object, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        Trace(single_token(), (Token(0, "a", 0, 1, False),), b"a", {"interventions": [change]}, {}, {})


def test_a_token_takes_an_expert_once() -> None:
    data = single_token(
        expert_id=(("token", "moe_layer", "rank"), np.array([[[4, 2, 4]]], np.int16)),
    ).assign_coords(moe_layer=[3])
    with pytest.raises(TraceError, match="names expert 4 twice for token 0"):
        Trace(data, (Token(0, "a", 0, 1, False),), b"a", {}, {}, {})
    unknown = data.assign(expert_id=data["expert_id"].copy(data=np.full((1, 1, 3), -1, np.int16)))
    assert Trace(unknown, (Token(0, "a", 0, 1, False),), b"a", {}, {}, {}).has("expert_id")


@pytest.mark.parametrize("order", [[0, 0], [0, 2], [-1, 0]])
def test_order_of_ranks_must_name_each_rank_once(order: list[int]) -> None:
    trace = family_trace()
    data = trace.data.copy(deep=True)
    data["rank_order"][3, 1] = order
    with pytest.raises(TraceError, match="rank_order must hold each rank of a token once"):
        dataclasses.replace(trace, data=data)


def test_imported_traces_may_miss_experts_and_bfloat16_inputs_are_bits() -> None:
    data = single_token(
        expert_id=(("token", "moe_layer", "rank"), np.full((1, 1, 2), -1, np.int16)),
        layer_input=(("token", "layer", "width"), np.full((1, 1, 4), 0x3F80, np.uint16)),
    ).assign_coords(layer=[3], moe_layer=[3])
    trace = Trace(data, (Token(0, "a", 0, 1, False),), b"a", {}, {}, {"kind": "imported"})
    assert same(loads(dumps(trace)), trace)


def test_two_traces_are_never_taken_for_equal_by_their_labels() -> None:
    assert random_trace(1) != random_trace(1)
    assert len({random_trace(1), random_trace(2)}) == 2


@pytest.mark.parametrize("value", [["a"], {"a": 1}, 7, float("nan")])
@pytest.mark.parametrize(
    ("part", "name", "owner"),
    [
        ("model", "weights_sha256", "model"),
        ("model", "tokenizer_sha256", "model"),
        ("config", "scoring_func", "configuration"),
        ("config", "model_type", "configuration"),
        ("config", "topk_method", "configuration"),
        ("origin", "kind", "origin"),
        ("origin", "dtype", "origin"),
    ],
)
def test_names_that_are_no_text_are_refused(part: str, name: str, owner: str, value: object) -> None:
    trace = random_trace()
    model, origin = dict(trace.model), dict(trace.origin)
    if part == "config":
        model["config"] = {**trace.config, name: value}
    else:
        (model if part == "model" else origin)[name] = value
    with pytest.raises(TraceError, match=f"{name} of the {owner} must be text, not "):
        Trace(trace.data, trace.tokens, trace.text, trace.request, model, origin)
