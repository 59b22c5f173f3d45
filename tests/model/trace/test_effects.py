"""The effects of an intervention, against numbers worked out by hand, and invariants."""

import dataclasses
import doctest
import math

import hypothesis.strategies as st
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis.extra import numpy as arrays

from model.trace import effects
from model.trace.trace import Token, Trace
from tests.traces import random_trace


def with_logits(trace: Trace, logits: np.ndarray) -> Trace:
    data = trace.data.assign(logits=(("token", "vocab"), logits.astype(np.float32)))
    return dataclasses.replace(trace, data=data)


def test_kl_by_hand() -> None:
    # p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4): ln 2 / 2 - ln 2 / 4 = ln 2 / 4; an offset of the logits says nothing.
    p, q = np.log([[0.5, 0.25, 0.25]]), np.log([[0.25, 0.5, 0.25]]) + 7
    assert effects.kl_divergence(p, q).tolist() == pytest.approx([math.log(2) / 4])
    # p = (3/4, 1/4), q = (1/2, 1/2): 3/4 ln(3/2) + 1/4 ln(1/2); the other way round it is another number.
    p, q = np.log([[0.75, 0.25]]), np.zeros((1, 2))
    assert effects.kl_divergence(p, q).tolist() == pytest.approx([0.75 * math.log(1.5) + 0.25 * math.log(0.5)])
    assert effects.kl_divergence(q, p).tolist() == pytest.approx([0.5 * math.log(2 / 3) + 0.5 * math.log(2)])


def test_kl_of_many_rows_has_no_seam() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=(2, 2 * effects.ROWS + 3, 5))
    alone = [effects.kl_divergence(p[i : i + 1], q[i : i + 1])[0] for i in range(len(p))]
    assert effects.kl_divergence(p, q).tolist() == alone


logits = arrays.arrays(np.float32, (3, 6), elements=st.floats(-80, 80, width=32))


@given(logits, logits)
def test_kl_is_never_negative_and_zero_for_the_same(p: np.ndarray, q: np.ndarray) -> None:
    assert (effects.kl_divergence(p, q) >= 0).all()
    assert (effects.kl_divergence(p, p) == 0).all()


def test_agreement_counts_two_empty_sets_as_the_same() -> None:
    empty = np.zeros((2, 1, 4), bool)
    assert [values.tolist() for values in effects.agreement(empty, empty)] == [[1.0], [1.0]]


def test_effect_of_a_change_by_hand() -> None:
    trace = random_trace(num_prompt=2, num_new=0)
    first, second = (np.log([row] * 2) for row in ([1 / 9] * 9, [1 / 3] * 2 + [1 / 21] * 7))
    ids = trace.data["expert_id"].values.copy()
    others = [expert for expert in range(8) if expert not in ids[1, 0]]
    ids[1, 0, 1] = others[0]  # one of two experts of token 1 in layer 1
    weights = trace.data["gate_weight"].values.copy()
    weights[0, 1, 1] = 0  # an expert of token 0 in layer 2 keeps its place and loses its weight
    data = trace.data.assign(
        expert_id=(trace.data["expert_id"].dims, ids),
        gate_weight=(trace.data["gate_weight"].dims, weights),
        logprob=trace.data["logprob"] - np.float32(0.5),
    )
    changed = with_logits(dataclasses.replace(trace, data=data), second)
    found = effects.effect(with_logits(trace, first), changed)
    kl = 2 / 9 * math.log((1 / 9) / (1 / 3)) + 7 / 9 * math.log((1 / 9) / (1 / 21))
    assert found["kl"].values.tolist() == pytest.approx([kl, kl], abs=1e-6)
    assert found["logprob_change"].values[1] == pytest.approx(-0.5, abs=1e-6)
    assert found["moe_layer"].values.tolist() == [1, 2]
    assert found["equal_sets"].values.tolist() == [0.5, 0.5]
    assert found["jaccard"].values.tolist() == pytest.approx([(1 + 1 / 3) / 2, (1 / 2 + 1) / 2])


def test_runs_that_cannot_be_compared_are_refused() -> None:
    trace = random_trace(num_prompt=3, num_new=0)
    with pytest.raises(effects.EffectError, match="must hold logits"):
        effects.effect(trace, trace)
    with pytest.raises(effects.EffectError, match="not fed the same tokens"):
        effects.effect(trace, random_trace(num_prompt=4, num_new=0))


def test_parting() -> None:
    one = random_trace(num_prompt=3, num_new=5)
    assert effects.parting(one, one) is None
    shorter = random_trace(num_prompt=3, num_new=2)
    ids = [trace.data["token_id"].values.tolist() for trace in (one, shorter)]
    expected = next((i for i, (a, b) in enumerate(zip(*ids, strict=False)) if a != b), 5)
    assert effects.parting(one, shorter) == expected


def test_texts_part_where_they_differ_and_no_character_is_divided() -> None:
    trace = random_trace()
    tokens = [Token(0, "<s>", 0, 0, False), Token(1, "a", 0, 1, False)]
    tokens += [Token(2, "é1", 1, 2, True), Token(3, "é2", 2, 3, True)]
    one = dataclasses.replace(
        trace, data=trace.data[["token_id"]].isel(token=slice(4)).assign(token_id=("token", np.arange(4, dtype="i4"))),
        tokens=tuple(tokens), text="aé".encode(),
    )  # fmt: skip
    assert effects.text_parts(one, 2, 3) == ("a", "", "é")
    assert effects.text_parts(one, 2, None) == ("a", "é", "")


def test_means_leave_out_nan_and_keep_the_draws() -> None:
    effect = xr.Dataset(
        {
            "kl": (("draw", "token"), [[1.0, 3.0], [2.0, 4.0]]),
            "logprob_change": (("draw", "token"), [[math.nan, -1.0], [math.nan, 5.0]]),
            "jaccard": (("draw", "moe_layer"), [[0.5, 1.0], [0.0, 0.5]]),
        }
    )
    means = effects.means(effect)
    assert {name: values.values.tolist() for name, values in means.items()} == {
        "kl": [2.0, 3.0], "logprob_change": [-1.0, 5.0], "jaccard": [0.75, 0.25],
    }  # fmt: skip
    assert effects.means(effect.isel(draw=0))["kl"].item() == 2.0
    assert [bound.item() for bound in effects.band(means["kl"])] == [2.0, 3.0]


def test_examples() -> None:
    assert doctest.testmod(effects).failed == 0


@pytest.mark.parametrize("number", [9, 19, 31, 39])
def test_a_harmless_change_lies_beyond_all_draws_as_often_as_the_level_says(number: int) -> None:
    values = np.random.default_rng(number).lognormal(0, 2, (20_000, number + 1))
    at = [effects.standing(row[0], row[1:]) for row in values]
    level = 1 / (number + 1)
    assert {one.level for one in at} == {level}
    error = 4 * np.sqrt(level / 20_000)  # four standard errors
    assert abs(np.mean([one.above == 0 for one in at]) - level) < error
    assert abs(np.mean([one.below == 0 for one in at]) - level) < error
