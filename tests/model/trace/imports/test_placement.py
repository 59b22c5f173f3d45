"""Rows are placed only on tokens that a field of the request or the answer states."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.trace.imports.formats import read
from model.trace.imports.placement import Start, check_filler, first_token, repeated
from model.trace.trace import Trace, TraceError
from tests import engines
from tests.engines import NEW_IDS, PROMPT_IDS, ROWS, TINY, as_json, coded, npy

IDS = engines.random_ids()
START = "routed_experts_prompt_start"
PLAIN = {"model": "tiny", "prompt": "once", "max_tokens": 3}


def imported(answer: Any, request: Any = None) -> Trace:
    return read(as_json(answer), "auto", TINY, None if request is None else as_json(request))


def refused(answer: Any, request: Any = None) -> str:
    with pytest.raises(TraceError) as caught:
        imported(answer, request)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rows_of(trace: Trace) -> list[int]:
    """Check that every row has the ids of its token, and return the tokens that have a row."""
    ids = trace.data["expert_id"].values
    known = np.flatnonzero((ids >= 0).all((1, 2)))
    assert np.array_equal(ids[known], IDS[known])
    return known.tolist()


def cached(answer: dict[str, Any], number: int) -> dict[str, Any]:
    answer["usage"]["prompt_tokens_details"] = {"cached_tokens": number}
    return answer


@pytest.mark.parametrize("request_sent", [None, PLAIN])
@pytest.mark.parametrize("rows", [IDS[:-1], IDS[: len(PROMPT_IDS)], IDS[3:], IDS[len(PROMPT_IDS) - 1 :]])
def test_rows_whose_start_nothing_states_are_refused(rows: np.ndarray, request_sent: Any) -> None:
    """One row short at the end, prompt rows only, a prefix omitted, generated rows only: all look the same."""
    message = refused(engines.vllm_npy(rows), request_sent)
    assert f"has {len(rows)} rows; a run of 4 + 3 tokens has 6, and nothing states" in message
    assert f'"{START}": {ROWS - len(rows)}' in message
    message = refused(engines.sglang_generate(rows), request_sent)
    assert f'"routed_experts_start_len": {ROWS - len(rows)}' in message


def test_the_request_or_the_answer_states_the_start() -> None:
    answer = engines.vllm_npy(IDS[3:])
    for request in ({START: 3}, {"sampling_params": {START: 3}}):
        trace = imported(answer, PLAIN | request)
        assert rows_of(trace) == [3, 4, 5]
        assert f"rows belong to tokens 3 to 5: {START} of the request" in trace.origin["notes"]
    for request in (None, PLAIN):
        trace = imported(cached(engines.vllm_npy(IDS[3:]), 3), request)
        assert rows_of(trace) == [3, 4, 5]
        assert "rows belong to tokens 3 to 5: cached_tokens of the answer" in trace.origin["notes"]
    native = engines.sglang_generate(IDS[2:])
    trace = imported(native, {"text": "a", "routed_experts_start_len": 2})
    assert rows_of(trace) == [2, 3, 4, 5]
    native["meta_info"]["routed_experts_start_len"] = 2
    trace = imported(native, {"text": "a"})
    assert rows_of(trace) == [2, 3, 4, 5]
    assert "rows belong to tokens 2 to 5: routed_experts_start_len of the answer" in trace.origin["notes"]


def test_a_whole_run_needs_no_statement_and_cached_rows_may_be_in_it() -> None:
    for answer in (engines.vllm_npy(IDS), cached(engines.vllm_npy(IDS), 3), engines.sglang_generate(IDS)):
        trace = imported(answer, PLAIN)
        assert rows_of(trace) == list(range(6))
        assert "rows belong to tokens 0 to 5: one for each token that was fed to the model" in trace.origin["notes"]


def test_a_stated_start_that_does_not_fit_is_refused() -> None:
    assert f"do not begin at token 3 ({START} of the request): they are short at their end" in refused(
        engines.vllm_npy(IDS[3:-1]), PLAIN | {START: 3}
    )
    assert "do not begin at token 2 (cached_tokens of the answer)" in refused(cached(engines.vllm_npy(IDS[:-1]), 2))
    assert "do not begin at token 3" in refused(engines.vllm_npy(IDS), PLAIN | {START: 3})
    assert "2 too many" in refused(engines.vllm_npy(engines.random_ids(8)))


def test_a_cached_prefix_longer_than_the_requested_start_moves_the_rows() -> None:
    trace = imported(cached(engines.vllm_npy(IDS[3:]), 3), PLAIN | {START: 1})
    assert rows_of(trace) == [3, 4, 5]


def test_lists_begin_where_their_field_says() -> None:
    answer = engines.vllm_lists(IDS)
    answer["choices"][0]["routed_experts"].pop()
    trace = imported(answer)
    assert rows_of(trace) == [0, 1, 2, 3, 4]
    notes = " ".join(trace.origin["notes"])
    assert "short at its end" in notes
    assert "prompt_routed_experts: rows belong to tokens 0 to 3" in notes
    answer["choices"][0]["routed_experts"] = None
    trace = imported(answer)
    assert rows_of(trace) == [0, 1, 2, 3]
    assert "routed_experts is absent or empty" in trace.origin["notes"][0]
    whole = engines.vllm_lists(IDS, prompt=False)
    whole["choices"][0]["routed_experts"] = IDS.tolist()
    assert rows_of(imported(whole)) == list(range(6))
    del whole["prompt_routed_experts"]
    whole["choices"][0]["routed_experts"] = IDS[1:].tolist()
    assert "nothing states" in refused(whole)
    assert rows_of(imported(whole, {START: 1})) == [1, 2, 3, 4, 5]


def test_a_file_without_tokens_says_that_its_start_is_assumed() -> None:
    trace = read(npy(IDS), "auto", TINY)
    assert any("rows belong to tokens 0 to 5: assumed" in note for note in trace.origin["notes"])


def test_padding_and_rows_that_were_not_recorded_are_named() -> None:
    answer, zeros = engines.vllm_npy(IDS), np.zeros((3, *IDS.shape[1:]), int)
    for rows, where in (([IDS, zeros], "3 rows (6 to 8)"), ([zeros, IDS], "3 rows (0 to 2)")):
        answer["choices"][0]["routed_experts"] = coded(npy(np.concatenate(rows)))
        assert f"routed_experts is padded: {where} of its 9" in refused(answer)
    answer["choices"][0]["routed_experts"] = coded(npy(np.concatenate([zeros[:1], IDS[1:]])))
    assert "one expert in every slot of row 0: the engine recorded nothing" in refused(answer)
    check_filler(np.full((3, 4, 4), -1), "rows")
    check_filler(np.zeros((3, 4, 1)), "rows")


def test_rows_that_repeat_are_noted() -> None:
    assert repeated(IDS) == []
    stale = np.concatenate([np.repeat(IDS[4:5], 4, 0), IDS[4:]])
    assert "rows 0 to 4 are equal in all layers" in repeated(stale)[0]
    assert repeated(np.full((5, 4, 4), -1)) == []


@given(
    prompt=st.integers(1, 20), new=st.integers(1, 20), rows=st.integers(0, 45),
    requested=st.none() | st.integers(0, 25), hit=st.none() | st.integers(0, 25),
)  # fmt: skip
def test_rows_never_begin_where_nothing_states(
    prompt: int, new: int, rows: int, requested: int | None, hit: int | None
) -> None:
    starts = [
        Start(token, by) for token, by in ((requested, f"{START} of x"), (hit, "cached_tokens")) if token is not None
    ]
    try:
        start = first_token(rows, (prompt, new), starts, START, "rows")
    except TraceError:
        return
    assert start.token + rows == prompt + new - 1
    assert start in starts or (start.token == 0 and requested is None)


def test_ids_of_the_tokens_stay_with_their_rows() -> None:
    trace = imported(engines.vllm_npy(IDS[3:]), PLAIN | {START: 3})
    assert [token.id for token in trace.tokens] == [*PROMPT_IDS, *NEW_IDS]


@pytest.mark.parametrize("make", [engines.vllm_npy, engines.vllm_lists, engines.sglang_generate, engines.sglang_openai])
def test_an_answer_under_two_versions_of_the_weights_is_refused(make: Any) -> None:
    parts = [{"version": "7", "start": 0, "end": 2}, {"version": "8", "start": 2, "end": 3}]
    holder = make(IDS)
    message = refused(holder | {"weight_versions": parts})
    assert "changed the weights during the answer (versions 7, 8)" in message
    assert imported(holder | {"weight_versions": parts[:1]}).num_tokens == ROWS + 1
    if "choices" in holder:
        holder["choices"][0]["weight_versions"] = parts
    else:
        holder["meta_info"]["weight_versions"] = parts
    assert refused(holder) == message


def test_zeros_of_a_router_that_takes_one_expert_are_no_recording() -> None:
    """With one expert per token no row repeats an id, so only zeros throughout tell that nothing was recorded."""
    named = engines.Named("tiny", engines.CONFIG | {"num_experts_per_tok": 1, "topk_group": 1})
    content = as_json(engines.vllm_npy(np.zeros_like(IDS[..., :1])))
    with pytest.raises(TraceError, match="names expert 0 for every token in every layer"):
        read(content, "auto", named)
    zeros = np.zeros_like(IDS[..., :1])
    zeros[2, 1] = 3
    assert read(as_json(engines.vllm_npy(zeros)), "auto", named).num_tokens == ROWS + 1
