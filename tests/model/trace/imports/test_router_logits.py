"""Router logits: the derived choice is the model's own, and without a bias there is none."""

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from model.trace.imports import LOGITS
from model.trace.imports.building import Named
from model.trace.imports.formats import detect, read
from model.trace.trace import TraceError
from tests import engines
from tests.engines import CONFIG, TINY

DERIVED = ("expert_id", "gate_weight", "group_score", "group_kept")


def with_bias(bias: np.ndarray, **changes: object) -> Named:
    return Named("tiny", CONFIG | changes, bias=lambda layer: bias[layer - 1])


def test_fixture_1_of_the_gate() -> None:
    """Deepseek-facts fixture 1: groups 1 and 3, experts 2, 3, 6, weights over the affinity only, times 2.5."""
    score = np.array([0.9, 0.1, 0.6, 0.5, 0.8, 0.05, 0.3, 0.2], np.float32)
    bias = np.array([[0, 0, 0, 0, -0.3, 0, 0.4, 0.25]], np.float32)
    named = with_bias(bias, n_routed_experts=8, num_experts_per_tok=3, num_hidden_layers=2)
    trace = read(engines.router_logits(np.log(score / (1 - score))[None, None]), "auto", named)
    assert trace.data["expert_id"].values.tolist() == [[[2, 3, 6]]]
    assert trace.data["gate_weight"].values[0, 0] == pytest.approx([1.0714286, 0.8928571, 0.5357143], abs=1e-6)
    assert trace.data["group_kept"].values[0, 0].tolist() == [False, True, False, True]
    assert trace.data["group_score"].values[0, 0] == pytest.approx([1.0, 1.1, 0.55, 1.15], abs=1e-6)
    assert set(trace.origin["derived"]) == {"router_score", "expert_bias", *DERIVED}


def test_without_a_bias_no_choice_is_shown() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 4, 16)).astype(np.float32)
    for named, why in ((None, "name the model"), (TINY, "name a model folder with weights")):
        trace = read(engines.router_logits(logits), "auto", named)
        assert set(trace.data.data_vars) == {"token_id", "router_score"}
        assert trace.data["router_score"].values == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-6)
        assert why in trace.origin["missing"]["chosen experts and weights"]


def test_softmax_and_greedy_choice_of_v2() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 4, 16)).astype(np.float32)
    old = {"model_type": "deepseek_v2", "scoring_func": "softmax", "topk_method": "greedy", "norm_topk_prob": False,
           "routed_scaling_factor": 1.0}  # fmt: skip
    trace = read(engines.router_logits(logits), "auto", Named("v2", CONFIG | old))
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert np.array_equal(trace.data["expert_id"].values, np.argsort(-logits, axis=-1)[..., :4])
    assert trace.data["gate_weight"].values == pytest.approx(-np.sort(-shares, -1)[..., :4], abs=1e-6)
    grouped = read(
        engines.router_logits(logits), "auto", Named("v2", CONFIG | old | {"topk_method": "group_limited_greedy"})
    )
    assert "expert_id" not in grouped.data
    assert "is not followed here" in str(grouped.origin["missing"])


def test_configuration_that_says_neither_true_nor_false_is_refused() -> None:
    with pytest.raises(TraceError, match="norm_topk_prob of the model named must be true or false, not 'false'"):
        read(
            engines.router_logits(np.random.default_rng(0).normal(size=(3, 4, 16)).astype("f4")),
            "auto",
            Named("v2", CONFIG | {"norm_topk_prob": "false"}),
        )


def test_bfloat16_is_read() -> None:
    bits = np.array([[0x3F80] * 15 + [0]], np.uint16)  # 1.0, and 0.0 at last
    header = b'{"router_logits.1":{"dtype":"BF16","shape":[1,16],"data_offsets":[0,32]}}'
    content = len(header).to_bytes(8, "little") + header + bits.tobytes()
    score = read(content).data["router_score"].values.ravel()
    assert score[:15] == pytest.approx(1 / (1 + np.exp(-1.0)), abs=1e-7)
    assert score[15] == 0.5


def test_broken_files_are_refused() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 4, 16)).astype("f4")
    silent = logits.copy()
    silent[:, 2] = 0
    whole = engines.router_logits(logits)
    assert detect(whole) == LOGITS
    save = safetensors.numpy.save
    for content, said in (
        (whole[:-7], "damaged"),
        (whole[:40], "damaged"),
        (engines.router_logits(logits[..., :8]), "has 8 experts"),
        (engines.router_logits(silent), "router_logits.3 are equal for all experts of every token"),
        (engines.router_logits(logits, first=3), "layers 3 to 6"),
        (engines.router_logits(np.full((3, 4, 16), np.nan, np.float32)), "finite"),
        (save({"router_logits.1": np.zeros((3, 16), np.int32)}), "not floating-point"),
        (save({"router_logits.1": np.zeros((3, 16), "f4"), "router_logits.2": np.zeros((2, 16), "f4")}), "same shape"),
        (save({"router_logits.1": np.zeros(16, "f4")}), "same shape"),
        (save({"model.embed": np.zeros((3, 16), "f4")}), "'model.embed'"),
        (save({}), "same shape"),
    ):
        with pytest.raises(TraceError, match=said) as caught:
            read(content, LOGITS, TINY)
        assert "\n" not in str(caught.value)


@settings(max_examples=40, deadline=None)
@given(tokens=st.integers(1, 6), layers=st.integers(1, 4), seed=st.integers(0, 99))
def test_weights_sum_to_the_factor_and_choices_lie_in_kept_groups(tokens: int, layers: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, bias = rng.normal(size=(tokens, layers, 16)).astype("f4"), rng.normal(0, 0.2, (layers, 16))
    trace = read(engines.router_logits(logits), "auto", with_bias(bias, num_hidden_layers=layers + 1))
    assert trace.data["gate_weight"].values.sum(-1) == pytest.approx(2.5, abs=1e-5)
    assert (trace.data["group_kept"].sum("group") == 2).all()
    kept = np.take_along_axis(trace.data["group_kept"].values, trace.data["expert_id"].values // 4, -1)
    assert kept.all()
