"""SGLang's answers and recorder dumps: shapes, the shared slot, physical ids, and what is refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.trace.imports.building import Named
from model.trace.imports.formats import read
from model.trace.trace import TraceError
from tests import engines
from tests.engines import CONFIG, NEW_IDS, PROMPT_IDS, TINY, as_json, coded

IDS = engines.random_ids()


def refused(answer: Any, form: str = "sglang") -> str:
    with pytest.raises(TraceError) as caught:
        read(as_json(answer), form, TINY)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_released_shape() -> None:
    """Fixture 19: base64 of int32 [n - 1, 61, 8], the first 3 layers filled with 0."""
    ids = engines.random_ids(layers=58, experts=256, top_k=8)
    named = Named("v3", CONFIG | {"num_hidden_layers": 61, "first_k_dense_replace": 3, "n_routed_experts": 256,
                                  "n_group": 8, "topk_group": 4, "num_experts_per_tok": 8})  # fmt: skip
    for how in ({}, {"shared": 256}):
        trace = read(as_json(engines.sglang_generate(ids, dense=3, **how)), "auto", named)
        assert np.array_equal(trace.data["expert_id"].values[:-1], ids)
        assert trace.data["moe_layer"].values.tolist() == list(range(3, 61))


def test_the_advertised_type_is_read() -> None:
    answer = engines.sglang_generate(IDS, dtype="<u2")
    answer["meta_info"]["routed_experts_dtype"] = "uint16"
    assert np.array_equal(read(as_json(answer), "auto", TINY).data["expert_id"].values[:6], IDS)
    answer["meta_info"]["routed_experts_dtype"] = "float8"
    assert "routed_experts_dtype" in refused(answer)


def test_rows_from_a_later_token_on() -> None:
    answer = engines.sglang_generate(IDS[2:])
    trace = read(as_json(answer), "auto", TINY, as_json({"text": "a", "routed_experts_start_len": 2}))
    assert np.array_equal(trace.data["expert_id"].values[2:6], IDS[2:])
    assert (trace.data["expert_id"].values[:2] == -1).all()
    with pytest.raises(TraceError, match="has 4 rows; a run of 4 \\+ 3 tokens has 6, and nothing states"):
        read(as_json(answer), "auto", TINY, as_json({"text": "a"}))


def test_text_and_ids_beside_log_probabilities() -> None:
    answer = engines.sglang_generate(IDS)
    del answer["output_ids"]
    answer["meta_info"]["output_token_logprobs"] = [
        [-1.0, token, text] for token, text in zip(NEW_IDS, "äbc", strict=True)
    ]
    answer["meta_info"]["input_token_logprobs"] = [[None, token, None] for token in PROMPT_IDS]
    trace = read(as_json(answer), "auto", TINY)
    assert [token.id for token in trace.tokens] == [*PROMPT_IDS, *NEW_IDS]
    assert trace.text.decode() == "äbc"
    assert trace.tokens[4].end == 2
    assert "logprob" not in trace.data


def test_broken_answers_are_refused() -> None:
    answer = engines.sglang_generate(IDS)
    content = IDS.astype("<i4").tobytes()
    for sent, said in (
        (coded(content[:-2]), "no whole number of int32"),
        (coded(content), "96 ids; 6 rows of 5 layers"),
        (coded(content + content), "192 ids"),
        ("?", "base64"),
        (engines.flat(np.where(IDS == 3, 16, IDS)), "names expert 16"),
        (engines.flat(IDS - 2), "runs from -2"),
        (engines.flat(np.zeros_like(IDS)), "recorded nothing"),
        (engines.flat(IDS, shared=15), "5 experts to a token"),
        (7, "must be a text"),
        (None, "--enable-return-routed-experts"),
    ):
        answer["meta_info"]["routed_experts"] = sent
        assert said in refused(answer)
    answer["meta_info"] = {"routed_experts": engines.flat(IDS)}
    assert "does not say how many tokens" in refused(answer)
    assert "-4" in refused({"meta_info": {"prompt_tokens": -4, "completion_tokens": 1, "routed_experts": ""}})


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 9), dense=st.integers(0, 3), layers=st.integers(1, 4), top_k=st.integers(1, 5),
    shared=st.booleans(), seed=st.integers(0, 99), openai=st.booleans(),
)  # fmt: skip
def test_any_shape_comes_back(
    rows: int, dense: int, layers: int, top_k: int, shared: bool, seed: int, openai: bool
) -> None:
    ids = engines.random_ids(rows, layers, 8, top_k, seed)
    config = CONFIG | {"num_hidden_layers": dense + layers, "first_k_dense_replace": dense, "n_routed_experts": 8,
                       "num_experts_per_tok": top_k}  # fmt: skip
    sent = {"routed_experts": engines.flat(ids, dense, 8 if shared else None)}
    counts = engines.usage(rows, 1)
    answer = {"choices": [{"sgl_ext": sent}], "usage": counts} if openai else {"meta_info": sent | counts}
    trace = read(as_json(answer), "auto", Named("any", config))
    assert np.array_equal(trace.data["expert_id"].values[:rows], ids)


# --- the recorder ----------------------------------------------------------------------------------------------------


def test_physical_ids_are_mapped_by_layer() -> None:
    dump = engines.recorder_dump(IDS)
    trace = read(as_json(dump), "auto", TINY)
    assert np.array_equal(trace.data["expert_id"].values, IDS)
    assert [token.generated for token in trace.tokens] == [False] * 4 + [True] * 2
    physical = np.array(dump["records"][0]["topk_ids_of_layer"])[1:, :, :4].transpose(1, 0, 2)
    assert not np.array_equal(physical, IDS[:4])


def test_a_dump_without_the_table_is_refused() -> None:
    assert "cannot be mapped" in refused(
        engines.recorder_dump(IDS) | {"last_physical_to_logical_map": None}, "recorder"
    )


def test_chunks_of_a_prompt_and_two_requests_are_told_apart() -> None:
    """Two requests, the first prefilled in two passes; both decode in the same passes, at different positions."""
    table = [list(range(16))] * 5
    ids = engines.random_ids(9)

    def record(number: int, places: list[tuple[int, int]], lengths: list[int] | None) -> dict[str, Any]:
        rows = np.full((5, len(places), 8), -1)
        rows[1:, :, :4] = ids[[row for row, _ in places]].transpose(1, 0, 2)
        return {"forward_pass_id": number, "input_ids": [100 + row for row, _ in places], "extend_seq_lens": lengths,
                "positions": [position for _, position in places], "topk_ids_of_layer": rows.tolist()}  # fmt: skip

    records = [
        record(0, [(0, 0), (1, 1)], [2]),
        record(1, [(2, 2), (3, 0)], [1, 1]),
        record(2, [(4, 3), (5, 1)], None),
        record(3, [(6, 4)], None),
    ]
    dump = as_json({"records": records, "last_physical_to_logical_map": table})
    first, second = (read(dump, "recorder", TINY, choice=choice) for choice in (0, 1))
    assert [token.id for token in first.tokens] == [100, 101, 102, 104, 106]
    assert np.array_equal(first.data["expert_id"].values, ids[[0, 1, 2, 4, 6]])
    assert [token.id for token in second.tokens] == [103, 105]
    assert "run 0 of the 2" in first.origin["notes"][0]


def test_runs_that_cannot_be_told_apart_are_refused() -> None:
    dump = engines.recorder_dump(IDS)
    dump["records"] = [dump["records"][0], *dump["records"]]
    assert "cannot be told apart" in refused(dump, "recorder")
    dump["records"] = dump["records"][2:]
    assert "middle of a run" in refused(dump, "recorder")


def test_a_few_bytes_cannot_speak_of_a_long_run() -> None:
    dump = engines.recorder_dump(IDS)
    dump["records"] = dump["records"][:1]
    dump["records"][0]["positions"] = [place + (1 << 30) for place in range(4)]
    assert "too long to show" in refused(dump, "recorder")
    answer = engines.sglang_generate(IDS)
    answer["meta_info"]["prompt_tokens"] = 1 << 30
    assert "a number of tokens is from 0 to 262,144" in refused(answer)


def test_what_came_out_of_the_cache_before_is_unknown() -> None:
    dump = engines.recorder_dump(IDS)
    dump["records"] = dump["records"][:1]
    dump["records"][0]["positions"] = [3, 4, 5, 6]
    expert_id = read(as_json(dump), "recorder", TINY).data["expert_id"].values
    assert np.array_equal(expert_id[3:], IDS[:4])
    assert (expert_id[:3] == -1).all()


def test_other_modes_and_broken_dumps_are_refused() -> None:
    assert "holds counts of experts and no tokens" in refused({"rank": 0, "logical_count": [[[1]]]}, "recorder")
    assert "counts only" in refused({"records": [{"global_physical_count": [1]}]}, "recorder")
    for change, said in (
        ({"positions": [0]}, "positions"),
        ({"extend_seq_lens": [9]}, "sum to 9"),
        ({"topk_ids_of_layer": [[[1, 2], [3]]]}, "equal length"),
        ({"topk_ids_of_layer": [[[99] * 8] * 4] * 5}, "physical expert 99"),
        ({"topk_ids_of_layer": [[[0] * 8] * 4] * 4}, "4 layers"),
        ({"input_ids": ["a"] * 4}, "list of token ids"),
    ):
        dump = engines.recorder_dump(IDS)
        dump["records"][0] |= change
        assert said in refused(dump, "recorder")
    dump = engines.recorder_dump(IDS)
    record = dump["records"][1]
    record["topk_ids_of_layer"] = [[slots[:3] for slots in layer] for layer in record["topk_ids_of_layer"]]
    assert "other numbers of experts to a token" in refused(dump, "recorder")
    assert "layers and experts" in refused(
        engines.recorder_dump(IDS) | {"last_physical_to_logical_map": [[0]]}, "recorder"
    )
