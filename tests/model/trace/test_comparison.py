"""Comparisons of made traces against numbers worked out by hand, and laws for any two traces."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.trace import comparison as module
from model.trace.comparison import CHANGE, FOLLOWS, NEAR_TIE, SAME, UNDECIDED, UNKNOWN, CompareError, compare
from model.trace.comparison_measures import MEASURES, measures
from model.trace.comparison_report import first_splits, to_json, token_rows, verdict
from model.trace.near_ties import reach
from model.trace.trace import Token, Trace
from tests.traces import random_trace

EXPERTS = 4


def gate(scores: list[Any], top_k: int = 2, num_groups: int = 1, **changes: Any) -> Trace:
    """A trace whose router has these scores [token][layer][expert], no bias, and keeps one group; layers from 1."""
    values = np.array(scores, np.float32)
    num_tokens, num_layers, num_experts = values.shape
    base = random_trace(
        num_prompt=num_tokens, num_new=0, num_layers=1 + num_layers, num_experts=num_experts,
        num_groups=num_groups, num_kept=1, top_k=top_k,
    )  # fmt: skip
    by_group = values.reshape(num_tokens, num_layers, num_groups, -1)
    best_two = np.sort(by_group, -1)[..., -2:].sum(-1)
    kept = best_two == best_two.max(-1, keepdims=True)
    ids = np.argsort(-np.where(kept[..., None], by_group, -1).reshape(values.shape), -1, kind="stable")[..., :top_k]
    weights = np.take_along_axis(values, ids, -1)
    arrays = {
        "router_score": values,
        "expert_bias": np.zeros((num_layers, num_experts), np.float32),
        "group_score": best_two,
        "group_kept": kept,
        "expert_id": ids.astype(np.int16),
        "gate_weight": 2.5 * weights / weights.sum(-1, keepdims=True),
    }
    arrays |= {name: np.asarray(value) for name, value in changes.pop("arrays", {}).items()}
    data = base.data.assign({name: (base.data[name].dims, array) for name, array in arrays.items()})
    tokens = tuple(Token(5 + place, "x", place, place + 1, False) for place in range(num_tokens))
    data = data.assign(token_id=("token", np.array([token.id for token in tokens], np.int32)))
    return dataclasses.replace(base, data=data, tokens=tokens, text=b"x" * num_tokens, **changes)


def without(trace: Trace, *names: str) -> Trace:
    return dataclasses.replace(trace, data=trace.data.drop_vars(names))


def of_dtype(trace: Trace, dtype: str) -> Trace:
    return dataclasses.replace(trace, origin={**trace.origin, "dtype": dtype})


A, B, C, D = 0.9, 0.7, 0.3, 0.1  # well apart
WIDE = [A, B, C, D]  # experts 0 and 1
OTHER = [A, C, B, D]  # experts 0 and 2


def test_traces_whose_configuration_is_null_are_compared() -> None:
    bare = dataclasses.replace(gate([[WIDE]]), model={"name": "x", "config": None})
    found = compare(bare, gate([[OTHER]]))
    assert (found.num_compared, found.chance) == (1, None)
    assert to_json(found)["layers"][0]["equal"] == 0


def test_equal_share_has_its_interval() -> None:
    found = compare(gate([[WIDE]] * 10), gate([[WIDE]] * 3 + [[OTHER]] * 7))
    row = to_json(found)["layers"][0]
    assert (row["equal"], row["equal_low"], row["equal_high"]) == pytest.approx((0.3, 0.1078, 0.6032), abs=1e-4)


def verdicts(a: Trace, b: Trace) -> list[list[int]]:
    return compare(a, b).choices["verdict"].values.tolist()


def test_a_trace_with_itself_is_identical() -> None:
    trace = random_trace(seed=4)
    found = compare(trace, trace)
    assert (found.choices["verdict"].values == SAME).all()
    assert verdict(found) == [
        "All 20 choices took the same experts.",
        "All weights and log-probabilities that both traces hold are equal to the bit.",
    ]
    expected = dict.fromkeys(MEASURES, 0.0)
    assert measures(found) == expected
    assert token_rows(found) == []
    assert found.renumbered == {}


def test_agreement_by_hand() -> None:
    # Three tokens: the same two experts, one in common (1 of 3), none.
    found = compare(gate([[WIDE], [WIDE], [WIDE]]), gate([[WIDE], [OTHER], [[C, D, A, B]]]))
    assert found.choices["shared"].values.tolist() == [[2], [1], [0]]
    assert found.choices["jaccard"].values[:, 0] == pytest.approx([1, 1 / 3, 0])
    (row,) = to_json(found)["layers"]
    assert row["layer"] == 1
    assert (row["equal"], row["jaccard"]) == pytest.approx((1 / 3, 4 / 9))
    assert found.chance == pytest.approx((1 / 6 + 4 / 6 / 3, 1 / 6))


def test_first_split_of_each_token_by_hand() -> None:
    # Token 0 is the same in both layers; token 1 splits in layer 2; token 2 in both, first in layer 1.
    a = gate([[WIDE, WIDE], [WIDE, WIDE], [WIDE, WIDE]])
    b = gate([[WIDE, WIDE], [WIDE, OTHER], [OTHER, OTHER]])
    assert first_splits(compare(a, b)) == [(0, 0, "same", None), (1, 1, "change", 2), (2, 2, "change", 1)]


def test_differences_of_shared_experts_by_hand() -> None:
    # Weights 2.5 x (.9, .7) / 1.6 and 2.5 x (.9, .7) / 1.6; then shared expert 0: .9 / 1.6 in both; then .8 / 1.5.
    other = gate([[WIDE], [[0.8, B, C, D]], [OTHER]])
    found = compare(gate([[WIDE], [WIDE], [WIDE]]), other)
    expected = 2.5 * (0.9 / 1.6 - 0.8 / 1.5)
    assert found.choices["weight_difference"].values[:, 0] == pytest.approx([0, expected, 0], abs=1e-6)
    assert found.layers["weight_mean"].item() == pytest.approx(2 * expected / 5)  # over the 2 + 2 + 1 shared ones
    assert measures(found)["weight-difference"] == pytest.approx(expected, abs=1e-6)


def test_logprob_differences() -> None:
    a = gate([[WIDE]] * 3, arrays={"logprob": np.array([np.nan, -1, -2], np.float32)})
    b = gate([[WIDE]] * 3, arrays={"logprob": np.array([np.nan, -1.5, -1.75], np.float32)})
    found = compare(a, b)
    assert found.choices["logprob_difference"].values[1:].tolist() == [-0.5, 0.25]
    assert measures(found)["logprob-difference"] == 0.5
    assert "differ by up to 0.5 nats, 0.38 on average" in verdict(found)[-1]


def test_wide_margin_with_nothing_before_it_is_a_change() -> None:
    assert verdicts(gate([[WIDE, WIDE]]), gate([[WIDE, OTHER]])) == [[SAME, CHANGE]]


def reach_of(scores: list[float], dtype: str, *experts: int) -> float:
    """How far rounding may bring these experts together."""
    return float(reach(np.array(scores, np.float32), dtype)[list(experts)].sum())


@pytest.mark.parametrize(("dtype", "gap", "kind"), [
    ("float32", 0.9, NEAR_TIE), ("float32", 1.1, CHANGE), ("bfloat16", 0.9, NEAR_TIE), ("bfloat16", 1.1, CHANGE),
])  # fmt: skip
def test_near_tie_is_judged_by_the_rougher_dtype(dtype: str, gap: float, kind: int) -> None:
    lead = gap * reach_of([A, 0.5, 0.5, D], dtype, 1, 2)
    a, b = gate([[[A, 0.5 + lead, 0.5, D]]]), of_dtype(gate([[[A, 0.5, 0.5 + lead, D]]]), dtype)
    assert verdicts(a, b) == verdicts(b, a) == [[kind]]
    assert compare(a, b).choices["margin"].item() == pytest.approx(lead, rel=1e-2)


def test_split_that_is_narrow_in_one_trace_alone_is_a_change() -> None:
    a, b = gate([[[A, 0.5 + 1e-5, 0.5, D]]]), gate([[OTHER]])
    assert verdicts(a, b) == verdicts(b, a) == [[CHANGE]]


def test_every_swapped_expert_must_be_near_the_cut() -> None:
    """Experts 1 and 2 tie in both traces, but experts 0 and 3, whose scores are far apart, were exchanged too."""
    a, b = gate([[[0.9, 0.5, 0.5 - 1e-5, 0.1]]]), gate([[[0.1, 0.5 - 1e-5, 0.5, 0.9]]])
    assert verdicts(a, b) == verdicts(b, a) == [[CHANGE]]


def test_another_number_of_experts_is_no_near_tie() -> None:
    a, b = gate([[WIDE]]), gate([[WIDE]], top_k=1)
    assert verdicts(a, b) == verdicts(b, a) == [[CHANGE]]


@pytest.mark.parametrize(("gap", "kind"), [(0.9, NEAR_TIE), (1.1, CHANGE)])
def test_near_tie_of_groups_is_judged_by_what_each_of_their_scores_may_move(gap: float, kind: int) -> None:
    """Groups of 1.2 and a little less; both experts of the kept one are taken, so that no place is near."""
    lead = gap * reach_of([A, C, B, 0.5], "float32", 0, 1, 2, 3)
    found = compare(
        gate([[[A, C, B, 0.5 - lead]]], num_groups=2), gate([[[A, C - 2 * lead, B, 0.5 - lead]]], num_groups=2)
    )
    assert found.choices["verdict"].item() == kind
    assert found.choices["margin"].item() == pytest.approx(lead / 2, rel=1e-2)


def test_dtype_that_is_not_known_is_taken_for_the_roughest() -> None:
    lead = 0.9 * reach_of([A, 0.5, 0.5, D], "bfloat16", 1, 2)
    found = compare(gate([[[A, 0.5 + lead, 0.5, D]]]), of_dtype(gate([[[A, 0.5, 0.5 + lead, D]]]), "fp8"))
    assert (found.dtype, found.count(NEAR_TIE)) == ("bfloat16", 1)


def test_what_lies_in_the_shadow_of_a_split_follows() -> None:
    """Attention carries a split to later tokens in higher layers, never to the same layer or to earlier tokens."""
    # token 0 splits in layer 2; token 1 in layer 2 (no earlier layer) and layer 3 (after token 0's); token 2 in layer 1
    a = gate([[WIDE] * 3] * 3)
    b = gate([[WIDE, OTHER, OTHER], [WIDE, OTHER, OTHER], [OTHER, WIDE, WIDE]])
    assert verdicts(a, b) == [[SAME, CHANGE, FOLLOWS], [SAME, CHANGE, FOLLOWS], [CHANGE, SAME, SAME]]


def test_split_of_an_earlier_token_alone_is_followed() -> None:
    a, b = gate([[WIDE, WIDE], [WIDE, WIDE]]), gate([[OTHER, WIDE], [WIDE, OTHER]])
    assert verdicts(a, b) == [[CHANGE, SAME], [SAME, FOLLOWS]]


def test_split_before_a_split_in_its_layer_is_not_its_cause() -> None:
    a, b = gate([[WIDE, WIDE], [WIDE, WIDE]]), gate([[WIDE, OTHER], [OTHER, WIDE]])
    assert verdicts(a, b) == [[SAME, CHANGE], [CHANGE, SAME]]


def test_first_split_of_each_token() -> None:
    found = compare(gate([[WIDE, WIDE]] * 3), gate([[WIDE, WIDE], [WIDE, OTHER], [OTHER, OTHER]]))
    assert found.first_split.tolist() == [-1, 1, 0]
    first, second = token_rows(found)
    assert (first["token"], first["layer"], first["verdict"], first["layers_split"]) == (1, 2, "change", 1)
    assert (second["token"], second["layer"], second["layers_split"]) == (2, 1, 2)
    assert (first["only_a"], first["only_b"], first["text"]) == ([1], [2], "x")


def test_without_scores_a_split_is_undecided_and_that_is_said() -> None:
    bare = [without(gate([[scores]]), "router_score", "group_score") for scores in (WIDE, OTHER)]
    found = compare(bare[0], bare[1])
    assert found.count(UNDECIDED) == 1
    assert "1 undecided, because neither trace holds the scores" in verdict(found)[0]
    assert measures(found)["changed-share"] == 1
    assert np.isnan(found.choices["margin"]).all()


def test_scores_of_one_side_are_enough_to_judge() -> None:
    """An engine's trace without scores against ours."""
    tight = [A, 0.5 + 1e-5, 0.5, D]
    bare = without(gate([[OTHER]]), "router_score", "group_score", "group_kept", "expert_bias")
    assert verdicts(gate([[tight]]), bare) == verdicts(bare, gate([[tight]])) == [[NEAR_TIE]]
    assert verdicts(gate([[WIDE]]), bare) == [[CHANGE]]


def test_unknown_experts_are_not_compared_and_that_is_said() -> None:
    imported = {"kind": "imported", "dtype": "float32", "engine": "test"}
    b = gate([[WIDE], [WIDE]], arrays={"expert_id": np.array([[[0, -1]], [[0, 1]]], np.int16)}, origin=imported)
    found = compare(gate([[WIDE], [OTHER]]), b)
    assert found.choices["verdict"].values.tolist() == [[UNKNOWN], [CHANGE]]
    assert (found.num_compared, measures(found)["split-share"]) == (1, 1.0)
    assert "Choices not compared, because a trace does not know all their experts: 1." in verdict(found)


def test_weights_that_were_not_recorded_are_said_to_be_missing() -> None:
    found = compare(gate([[WIDE]]), without(gate([[WIDE]]), "gate_weight", "logprob"))
    assert np.isnan(measures(found)["weight-difference"])
    assert np.isnan(measures(found)["logprob-difference"])
    assert any("Weights cannot be compared" in said for said in verdict(found))


def test_tokens_that_cannot_be_aligned_are_counted_and_listed() -> None:
    a, b = gate([[WIDE]] * 3), gate([[WIDE]] * 4)
    spans = ((5, 0, 1), (6, 1, 3), (7, 3, 4), (8, 4, 5))
    tokens = tuple(Token(number, "y", start, end, False) for number, start, end in spans)
    b = dataclasses.replace(b, tokens=tokens, text=b"xx" + b"yyy")
    found = compare(a, b)
    plain = to_json(found)["alignment"]
    assert (plain["how"], plain["pairs"], plain["only_a"], plain["only_b"]) == ("byte span", 1, [1, 2], [1, 2, 3])
    assert "Not aligned: 2 of 3 tokens of A and 3 of 4 of B (by byte span)." in verdict(found)
    assert measures(found)["unaligned-share"] == pytest.approx(5 / 7)


def test_split_after_the_texts_part_follows() -> None:
    a, b = gate([[WIDE]] * 3), gate([[WIDE], [WIDE], [OTHER]])
    tokens = (b.tokens[0], Token(99, "z", 1, 2, False), b.tokens[2])
    data = b.data.assign(token_id=("token", np.array([5, 99, 7], np.int32)))
    found = compare(a, dataclasses.replace(b, data=data, tokens=tokens, text=b"xzx"))
    assert found.alignment.pairs.tolist() == [[0, 0], [2, 2]]
    assert found.choices["verdict"].values.tolist() == [[SAME], [FOLLOWS]]


def test_split_after_the_same_text_in_other_tokens_follows() -> None:
    """Three bytes are cut after the first byte in A and after the second in B; the token after them is aligned."""

    def cut(trace: Trace, middle: int) -> Trace:
        spans = ((0, middle), (middle, 3), (3, 4))
        tokens = tuple(Token(middle + place, "x", start, end, False) for place, (start, end) in enumerate(spans))
        ids = np.array([token.id for token in tokens], np.int32)
        return dataclasses.replace(trace, data=trace.data.assign(token_id=("token", ids)), tokens=tokens, text=b"xyz!")

    found = compare(cut(gate([[WIDE]] * 3), 1), cut(gate([[WIDE], [WIDE], [OTHER]]), 2))
    assert found.alignment.pairs.tolist() == [[2, 2]]
    assert found.alignment.same_before.all()
    assert found.choices["verdict"].values.tolist() == [[FOLLOWS]]


def test_other_biases_are_said() -> None:
    a, b = gate([[WIDE, WIDE]]), gate([[WIDE, WIDE]], arrays={"expert_bias": np.float32([[0] * 4, [0, 0, 0, 0.05]])})
    first = verdict(compare(a, b))[0]
    assert first == "These are not the same weights: the experts' biases differ in L2, by up to 0.05."


def test_other_weights_come_first() -> None:
    a, b, unknown = (
        dataclasses.replace(gate([[WIDE]]), model={"name": "m", "config": {"rope_theta": theta}, "weights_sha256": sha})
        for theta, sha in ((1e4, "a" * 64), (1e5, "b" * 64), (1e5, None))
    )
    first, second, *_ = verdict(compare(a, b))
    assert first == "These are not the same weights: the checksums of their files differ."
    assert "rope_theta" in second
    assert "not the same weights" not in " ".join(verdict(compare(a, a)) + verdict(compare(a, unknown)))


def test_layers_of_one_side_only_are_said() -> None:
    found = compare(gate([[WIDE, WIDE, WIDE]]), gate([[WIDE, WIDE]]))
    assert (found.only_a, found.only_b) == ((3,), ())
    assert "Only A has the MoE layers L3." in verdict(found)


def test_shuffled_expert_order_is_found_and_undone() -> None:
    a = random_trace(seed=2, num_prompt=60, num_new=0, num_experts=16, num_groups=4, num_kept=2)
    order = np.random.default_rng(0).permutation(16)
    arrays = {"expert_id": order[a.data["expert_id"].values[:, 1].astype(int)].astype(np.int16)}
    for name in ("router_score", "expert_bias"):
        values = a.data[name].values.copy()
        values[..., 1, order] = a.data[name].values[..., 1, :]
        arrays[name] = values
    ids = a.data["expert_id"].values.copy()
    ids[:, 1] = arrays.pop("expert_id")
    data = a.data.assign({name: (a.data[name].dims, values) for name, values in {**arrays, "expert_id": ids}.items()})
    found = compare(a, dataclasses.replace(a, data=data))
    assert list(found.renumbered) == [2]
    assert found.renumbered[2].order.tolist() == order.tolist()
    assert found.is_split.sum() == 0
    assert measures(found)["bias-difference"] == 0
    assert verdict(found)[0] == "All 120 choices took the same experts under other numbers."
    assert verdict(found)[1].startswith(
        "Expert order differs in L2: with B's experts renumbered, affinities agree to 100 %"
    )
    assert to_json(found)["renumbered"]["2"]["order"] == order.tolist()


def test_experts_of_a_split_carry_the_numbers_of_a() -> None:
    rng = np.random.default_rng(1)
    scores = rng.permuted(np.tile(np.linspace(0.1, 0.9, 8), (64, 1, 1)), axis=-1)
    order = np.roll(np.arange(8), 3)
    other = scores[..., np.argsort(order)].copy()
    other[5, 0] = scores[6, 0][np.argsort(order)]
    found = compare(gate(scores.tolist()), gate(other.tolist()))
    (row,) = token_rows(found)
    expected = [set(np.argsort(-scores[token, 0])[:2].tolist()) for token in (5, 6)]
    assert row["token"] == 5
    assert (set(row["only_a"]), set(row["only_b"])) == (expected[0] - expected[1], expected[1] - expected[0])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda trace: without(trace, "expert_id"), "does not hold the chosen experts"),
        (lambda trace: random_trace(num_experts=16), "have 8 and 16 experts"),
        (lambda trace: _renamed(trace), "no token of one trace is aligned"),
        (lambda trace: _layers(trace, [7, 8]), "no MoE layer in common"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(change: Any, complaint: str) -> None:
    trace = random_trace()
    with pytest.raises(CompareError, match=complaint) as refused:
        compare(trace, change(trace))
    assert "\n" not in str(refused.value)


def _renamed(trace: Trace) -> Trace:
    tokens = (Token(777, "z", 0, 1, False),)
    data = trace.data.isel(token=[0], query=[0], key=[0]).assign(token_id=("token", np.array([777], np.int32)))
    return dataclasses.replace(trace, data=data, tokens=tokens, text=b"~")


def _layers(trace: Trace, layers: list[int]) -> Trace:
    return dataclasses.replace(trace, data=trace.data.assign_coords(moe_layer=layers))


SHAPES = st.fixed_dictionaries(
    {"num_prompt": st.integers(1, 5), "num_new": st.integers(0, 3), "top_k": st.integers(1, 4)}
)


@settings(max_examples=25)
@given(st.integers(0, 99), st.integers(0, 99), SHAPES)
def test_what_holds_of_any_two_traces(first: int, second: int, shape: dict[str, int]) -> None:
    a, b = random_trace(first, **shape), random_trace(second, **shape)
    there, back = compare(a, b), compare(b, a)
    index = there.choices["jaccard"].values
    assert ((index >= 0) & (index <= 1)).all()
    np.testing.assert_array_equal(np.sort(index, axis=0), np.sort(back.choices["jaccard"].values, axis=0))
    np.testing.assert_array_equal(there.choices["verdict"].values, back.choices["verdict"].values)
    split, verdict_values = there.is_split, there.choices["verdict"].values
    np.testing.assert_array_equal(split, index < 1)
    assert ((verdict_values == SAME) == ~split).all()
    values, swapped = measures(there), measures(back)
    for name, value in values.items():
        assert name == "k3" or value == pytest.approx(swapped[name], nan_ok=True)
        assert np.isnan(value) or value >= 0
    assert values["changed-share"] <= values["split-share"] <= 1
    plain = to_json(there)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert sum(plain["choices"].values()) == index.size


@settings(max_examples=15)
@given(st.integers(0, 999), SHAPES)
def test_self_comparison_finds_nothing(seed: int, shape: dict[str, int]) -> None:
    trace = random_trace(seed, **shape)
    found = measures(compare(trace, trace))
    for name in ("logprob-difference", "k1", "k3", "ratio-share", "probability-difference"):
        assert np.isnan(found.pop(name)) == (trace.num_tokens == 1)  # the first token has none
    assert set(found.values()) == {0.0}


def test_names_of_verdicts_match_their_numbers() -> None:
    named = dict(zip(module.VERDICTS, range(6), strict=True))
    assert named == {"same": SAME, "near tie": NEAR_TIE, "follows": FOLLOWS, "change": CHANGE, "undecided": UNDECIDED,
                     "not recorded": UNKNOWN}  # fmt: skip
