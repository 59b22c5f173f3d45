"""vLLM's forms: where rows begin, the layer axis, unknown positions, and what is refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.trace.imports.building import Named, placed
from model.trace.imports.formats import read
from model.trace.trace import TraceError
from tests import engines
from tests.engines import CONFIG, NEW_IDS, PROMPT_IDS, TINY, as_json, coded, npy

IDS = engines.random_ids()


def refused(answer: Any) -> str:
    with pytest.raises(TraceError) as caught:
        read(as_json(answer), "vllm", TINY)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def with_rows(content: bytes) -> dict[str, Any]:
    answer = engines.vllm_npy(IDS)
    answer["choices"][0]["routed_experts"] = coded(content)
    return answer


def test_released_shape() -> None:
    """Fixture 19: base64 of .npy [n - 1, 58, 8] belongs to layers 3 to 60."""
    ids = engines.random_ids(layers=58, experts=256, top_k=8)
    named = Named("v3", CONFIG | {"num_hidden_layers": 61, "first_k_dense_replace": 3, "n_routed_experts": 256,
                                  "n_group": 8, "topk_group": 4, "num_experts_per_tok": 8})  # fmt: skip
    for dtype in ("uint8", "uint16", "int32", "int16"):
        trace = read(as_json(engines.vllm_npy(ids, dtype)), "auto", named)
        assert np.array_equal(trace.data["expert_id"].sel(moe_layer=3).values[:-1], ids[:, 0])
        assert trace.data["moe_layer"].values.tolist() == list(range(3, 61))
    with pytest.raises(TraceError, match="57 layers; the model named has 58 with experts and 61 in all"):
        read(as_json(engines.vllm_npy(ids[:, 1:], "uint8")), "auto", named)


def test_prompt_rows_may_be_left_out() -> None:
    trace = read(as_json(engines.vllm_lists(IDS, prompt=False)), "auto", TINY)
    assert (trace.data["expert_id"].values[: len(PROMPT_IDS)] == -1).all()
    assert np.array_equal(trace.data["expert_id"].values[4:6], IDS[4:])
    assert "routed_experts: rows belong to tokens 4 to 5: in lists" in trace.origin["notes"][0]


def test_the_request_says_where_rows_begin() -> None:
    request = as_json({"prompt": PROMPT_IDS, "routed_experts_prompt_start": 3})
    trace = read(as_json(engines.vllm_npy(IDS[3:])), "auto", TINY, request)
    assert np.array_equal(trace.data["expert_id"].values[3:6], IDS[3:])
    with pytest.raises(TraceError, match="3 rows"):
        read(as_json(engines.vllm_npy(IDS[3:])), "auto", TINY, as_json({"prompt": PROMPT_IDS}))


def test_cached_positions_are_unknown() -> None:
    ids = IDS.copy()
    ids[:2] = -1
    trace = read(as_json(engines.vllm_lists(ids)), "auto", TINY)
    assert np.array_equal(trace.data["expert_id"].values[:6], ids)


def test_one_of_several_choices() -> None:
    answer = engines.vllm_npy(IDS)
    other = engines.random_ids(seed=1)
    answer["choices"].append(engines.vllm_npy(other)["choices"][0])
    assert np.array_equal(read(as_json(answer), "auto", TINY, choice=1).data["expert_id"].values[:6], other)
    with pytest.raises(TraceError, match="none of number 2"):
        read(as_json(answer), "auto", TINY, choice=2)


def test_a_bare_npy_file_knows_no_tokens() -> None:
    trace = read(npy(IDS.astype("uint8")), "auto", TINY)
    assert trace.num_tokens == 7
    assert {token.id for token in trace.tokens} == {-1}
    assert trace.text == b""
    assert any("does not state the length of the prompt" in note for note in trace.origin["notes"])


def test_ids_beside_log_probabilities() -> None:
    answer = engines.vllm_npy(IDS)
    del answer["choices"][0]["token_ids"]
    answer["choices"][0]["logprobs"] = {"content": [{"token": f"token_id:{number}"} for number in NEW_IDS]}
    assert [token.id for token in read(as_json(answer), "auto", TINY).tokens] == [*PROMPT_IDS, *NEW_IDS]


def test_broken_payloads_are_refused() -> None:
    whole = npy(IDS.astype("uint8"))
    assert "its header says" in refused(with_rows(whole[:-5]))
    assert "its header says" in refused(with_rows(whole + b"x"))
    assert "not a .npy file" in refused(with_rows(whole[:20]))
    assert "pickled objects" in refused(with_rows(npy(np.array([[[None]]], dtype=object))))
    assert "float64" in refused(with_rows(npy(IDS.astype(float))))
    assert "2 axes" in refused(with_rows(npy(IDS[0])))
    assert "names expert 16" in refused(with_rows(npy(np.where(IDS == 3, 16, IDS))))
    assert "runs from -2" in refused(with_rows(npy(IDS - 2)))
    assert "one expert in every slot of 6 rows (0 to 5)" in refused(with_rows(npy(np.zeros_like(IDS))))
    one_layer = np.where(np.arange(4)[:, None] == 1, 0, IDS)
    assert "twice" in refused(with_rows(npy(one_layer)))
    assert "experts to a token" in refused(with_rows(npy(IDS[:, :, :3])))
    answer = with_rows(whole)
    answer["choices"][0]["routed_experts"] = "not base64!"
    assert "base64" in refused(answer)
    answer["choices"][0]["routed_experts"] = None
    assert "--enable-return-routed-experts" in refused(answer)
    answer["choices"][0]["routed_experts"] = [[[1, 2], [3]]]
    assert "ragged" in refused(answer)


def test_counts_that_contradict_each_other_are_refused() -> None:
    answer = engines.vllm_npy(IDS)
    answer["usage"] = engines.usage(9, 3)
    assert "9 tokens by the engine's count, and 4 ids" in refused(answer)
    lists = engines.vllm_lists(IDS)
    del lists["prompt_token_ids"]
    lists["usage"] = engines.usage(9, 3)
    assert "prompt_routed_experts has 4 rows, the prompt 9 tokens" in refused(lists)


def test_a_header_that_lies_allocates_nothing() -> None:
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000, 1000, 8), }"
    padded = header + b" " * (117 - len(header)) + b"\n"
    assert "its header says" in refused(with_rows(b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 9), dense=st.integers(0, 3), layers=st.integers(1, 4), top_k=st.integers(1, 5),
    all_layers=st.booleans(), start=st.integers(0, 8), order=st.sampled_from("CF"), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_shape_comes_back(
    rows: int, dense: int, layers: int, top_k: int, all_layers: bool, start: int, order: Any, seed: int
) -> None:
    """[n - 1 - start, layers with experts or all, k] of any model, in either memory order."""
    ids = engines.random_ids(rows, layers, 8, top_k, seed)
    config = CONFIG | {"num_hidden_layers": dense + layers, "first_k_dense_replace": dense, "n_routed_experts": 8,
                       "num_experts_per_tok": top_k}  # fmt: skip
    sent = np.pad(ids, ((0, 0), (dense, 0), (0, 0))) if all_layers else ids
    start = min(start, rows)
    answer = {
        "choices": [{"routed_experts": coded(npy(np.asarray(sent[start:], order=order)))}],
        "usage": engines.usage(rows, 1),
    }
    if start == rows:
        return
    request = as_json({"routed_experts_prompt_start": start})
    trace = read(as_json(answer), "auto", Named("any", config), request if start else None)
    assert np.array_equal(trace.data["expert_id"].values[start:rows], ids[start:])
    assert (trace.data["expert_id"].values[:start] == -1).all()
    assert (trace.data["expert_id"].values[rows:] == -1).all()
    assert trace.data["moe_layer"].values.tolist() == list(range(dense, dense + layers))


def test_a_run_that_would_fill_the_memory_is_refused() -> None:
    ids = np.zeros((1, 58, 8), np.int64)
    with pytest.raises(TraceError, match="a run of 1,048,576 tokens is too long"):
        placed(ids, 0, 1 << 20, "rows")
    with pytest.raises(TraceError, match="a run of 1,048,577 tokens is too long"):
        placed(ids[:, :1], 0, (1 << 20) + 1, "rows")
    assert placed(ids, 1, 3, "rows").shape == (3, 58, 8)
