"""Every format: ids come back exactly from a made file, and broken files are refused in one line."""

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from model.trace import file
from model.trace.imports import AUTO, FORMATS, OURS, RECORDER, SGLANG, VLLM
from model.trace.imports.formats import detect, read
from model.trace.trace import Trace, TraceError
from tests import engines
from tests.engines import NEW_IDS, PROMPT_IDS, ROWS, TINY, as_json
from tests.traces import random_trace

IDS = engines.random_ids()
FORMS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "vLLM lists": (VLLM, lambda: as_json(engines.vllm_lists(IDS))),
    "vLLM npy": (VLLM, lambda: as_json(engines.vllm_npy(IDS))),
    "vLLM npy, all layers": (VLLM, lambda: as_json(engines.vllm_npy(np.pad(IDS, ((0, 0), (1, 0), (0, 0)))))),
    "SGLang /generate": (SGLANG, lambda: as_json(engines.sglang_generate(IDS))),
    "SGLang OpenAI": (SGLANG, lambda: as_json(engines.sglang_openai(IDS))),
    "SGLang shared slot": (SGLANG, lambda: as_json(engines.sglang_generate(IDS, shared=16))),
    "SGLang batch": (SGLANG, lambda: as_json([engines.sglang_generate(IDS)])),
    "recorder": (RECORDER, lambda: as_json(engines.recorder_dump(IDS))),
}


def known(trace: Trace) -> np.ndarray:
    """Check that the ids of unknown rows are -1, and return the ids of the known rows."""
    ids = trace.data["expert_id"].values
    rows = (ids >= 0).all((1, 2))
    assert (ids[~rows] == -1).all()
    return ids[rows]


def refused(content: bytes, form: str = AUTO, **how: Any) -> str:
    with pytest.raises(TraceError) as caught:
        read(content, form, TINY, **how)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 400
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("name", FORMS)
def test_rows_come_back_exactly(name: str) -> None:
    form, make = FORMS[name]
    content = make()
    trace = read(content, AUTO, TINY)
    assert detect(content) == form
    assert np.array_equal(known(trace), IDS)
    assert trace.data["moe_layer"].values.tolist() == [1, 2, 3, 4]
    assert trace.origin["kind"] == "imported"
    assert trace.origin["missing"]
    assert "gate_weight" not in trace.data
    assert "router_score" not in trace.data
    assert "logprob" not in trace.data
    again = file.loads(file.dumps(trace))
    assert np.array_equal(again.data["expert_id"].values, trace.data["expert_id"].values)


@pytest.mark.parametrize("name", [name for name in FORMS if name != "recorder"])
def test_row_r_is_of_input_token_r_and_the_last_sampled_token_has_none(name: str) -> None:
    trace = read(FORMS[name][1](), AUTO, TINY)
    ids = trace.data["expert_id"].values
    assert trace.num_tokens == ROWS + 1
    assert np.array_equal(ids[:ROWS], IDS)
    assert (ids[ROWS] == -1).all()
    assert [token.generated for token in trace.tokens] == [False] * len(PROMPT_IDS) + [True] * len(NEW_IDS)


def test_ids_of_tokens_are_taken_where_the_answer_has_them() -> None:
    of = {name: [token.id for token in read(make(), AUTO, TINY).tokens] for name, (_, make) in FORMS.items()}
    assert of["vLLM lists"] == of["vLLM npy"] == [*PROMPT_IDS, *NEW_IDS]
    assert of["SGLang /generate"] == [-1, -1, -1, -1, *NEW_IDS]
    assert of["SGLang OpenAI"] == [-1] * 7
    assert of["recorder"] == [*PROMPT_IDS, *NEW_IDS][:ROWS]
    request = as_json({"input_ids": PROMPT_IDS})
    trace = read(FORMS["SGLang /generate"][1](), AUTO, TINY, request)
    assert [token.id for token in trace.tokens] == [*PROMPT_IDS, *NEW_IDS]


def test_our_own_trace_needs_no_model() -> None:
    ours = random_trace()
    content = file.dumps(ours)
    assert detect(content) == OURS
    assert np.array_equal(read(content).data["expert_id"].values, ours.data["expert_id"].values)


def test_request_and_response_in_one_file() -> None:
    both = {"request": {"input_ids": PROMPT_IDS}, "response": engines.sglang_generate(IDS)}
    assert detect(as_json(both)) == SGLANG
    assert [token.id for token in read(as_json(both), AUTO, TINY).tokens][:4] == PROMPT_IDS


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("cut", [0.3, 0.9])
def test_a_truncated_file_is_refused(name: str, cut: float) -> None:
    form, make = FORMS[name]
    content = make()
    said = refused(content[: int(len(content) * cut)], form)
    assert "not whole JSON" in said


@pytest.mark.parametrize(
    "change", [{"n_routed_experts": 8, "n_group": 2}, {"num_hidden_layers": 7}, {"num_experts_per_tok": 3}]
)
@pytest.mark.parametrize("name", FORMS)
def test_another_model_is_refused(name: str, change: dict[str, int]) -> None:
    other = engines.Named("other", engines.CONFIG | change)
    with pytest.raises(TraceError):
        read(FORMS[name][1](), AUTO, other)


def test_files_of_no_format_are_refused() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("data.pkl", b"x")
    assert "import --help" in refused(archive.getvalue())
    assert "import --help" in refused(b"\x80\x04K\x01.")
    assert "import --help" in refused(b"\x80\x04K\x01.", RECORDER)
    assert "unknown format" in refused(b"hello there")
    assert "unknown format" in refused(as_json({"hello": 1}))
    assert "empty" in refused(b"")
    assert "nested too deeply" in refused(b"[" * 100_000)
    for form in FORMATS[1:]:
        for content in (b"\xff\xfe\x00", b"null", b"[]", b'"a"', b"{}", b"[[]]", b'{"choices": [null]}', b"1,2\n"):
            refused(content, form)


def test_a_model_is_asked_for() -> None:
    with pytest.raises(TraceError, match="name the model"):
        read(FORMS["vLLM npy"][1]())


def test_half_a_surrogate_pair_is_refused_before_a_page_meets_it() -> None:
    answer = engines.vllm_npy(IDS)
    answer["choices"][0]["text"] = "\ud800"
    assert "surrogate" in refused(json.dumps(answer).encode())
