"""Decision tables: lines of engines and of our own, batches of verl, and what is refused."""

import json
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from model.trace.file import dumps
from model.trace.imports.decision_tables import is_table, read
from model.trace.imports.table_rows import Document
from model.trace.trace import TraceError
from tests import engines
from tests.engines import NEW_IDS, PROMPT_IDS, TINY, coded, npy
from tests.traces import random_trace

ROWS = [[[0, 1]], [[2, 3]], [[1, 3]]]  # [token][layer][slot]
PLAIN = {"id": "x", "token_ids": [5, 6, 7], "num_prompt": 1, "routed_experts": ROWS, "logprobs": [-1.0, None]}


def lines(*values: Any) -> bytes:
    return b"\n".join(json.dumps(value).encode() for value in values)


def table(*values: Any, named: Any = None) -> list[Document]:
    content = lines(*values)
    assert is_table(content)
    return read(content, named)


def test_a_line_of_our_own() -> None:
    (document,) = table(PLAIN)
    trace = document.trace
    assert document.name == "x"
    assert trace.data["expert_id"].values.tolist() == ROWS
    assert trace.data["moe_layer"].values.tolist() == [0]
    assert [token.generated for token in trace.tokens] == [False, True, True]
    np.testing.assert_array_equal(trace.data["logprob"].values, np.array([np.nan, -1, np.nan], np.float32))


def test_rows_may_end_before_the_last_token_start_later_and_come_as_npy() -> None:
    sent = coded(npy(np.array(ROWS[1:2], np.uint8)))
    ((_, trace),) = table(PLAIN | {"routed_experts": sent, "routed_experts_start": 1, "layers": [3]})
    assert trace.data["expert_id"].values.tolist() == [[[-1, -1]], ROWS[1], [[-1, -1]]]
    assert trace.data["moe_layer"].values.tolist() == [3]


def test_documents_without_an_id_are_numbered() -> None:
    without = {name: value for name, value in PLAIN.items() if name != "id"}
    assert [document.name for document in table(without, PLAIN, without)] == ["1", "x", "3"]


def test_answers_of_engines_with_their_log_probabilities() -> None:
    ids = engines.random_ids()
    answer = engines.vllm_npy(ids)
    answer["choices"][0]["logprobs"] = {"token_logprobs": [-0.5] * len(NEW_IDS)}
    answer["id"] = "cmpl-1"
    documents = table(answer, {"id": "y", "request": {"temperature": 0.7}, "response": answer}, named=TINY)
    assert [document.name for document in documents] == ["1", "y"]
    expected = np.array([np.nan] * len(PROMPT_IDS) + [-0.5] * len(NEW_IDS), np.float32)
    np.testing.assert_array_equal(documents[0].trace.data["logprob"].values, expected)
    assert not documents[1].trace.has("logprob")
    assert "a temperature other than 1" in documents[1].trace.origin["notes"][-1]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"token_ids": []}, "token_ids is empty"),
        ({"num_prompt": 4}, "num_prompt is 4, but there are 3 tokens"),
        ({"routed_experts": ROWS[:1]}, "1 rows from token 0 on, but there are 3 tokens"),
        ({"routed_experts": [*ROWS[:2], [[0, 0]]]}, "one expert in every slot of row 2"),
        ({"routed_experts": [[[0, 0], *row] for row in ROWS]}, r"or the layer is dense: name the model \(--model\)"),
        ({"routed_experts": [[[1, 2], *row] for row in ROWS[:2]] + [[[1, 1], [1, 3]]]}, "stands twice in row 2, L0"),
        ({"logprobs": [-1.0]}, "there are 1 logprobs for 3 tokens, 2 generated"),
        ({"logprobs": [-1.0, 0.5]}, r"a log-probability is 0\.5; none is above 0"),
        ({"logprobs": [-1.0, "a"]}, "logprobs must be numbers"),
        ({"logprob_temperature": 0}, "logprob_temperature must be a number, not 0"),
        ({"layers": [3, 4]}, "layers must be 1 ascending layer numbers"),
        ({"weight_versions": [{"version": 1}, {"version": 2}]}, "the engine changed the weights during the answer"),
    ],
)
def test_what_is_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(TraceError, match=f"line 2: .*{complaint}") as caught:
        table(PLAIN, PLAIN | {"id": "y"} | change)
    assert "\n" not in str(caught.value)


def test_other_files_and_repeated_ids_are_refused() -> None:
    assert not is_table(dumps(random_trace()))
    with pytest.raises(TraceError, match="two documents of the id x"):
        table(PLAIN, PLAIN)
    with pytest.raises(TraceError, match="line 1: name the model"):
        table(engines.vllm_npy(engines.random_ids()))
    with pytest.raises(TraceError, match="line 1: .*not whole JSON"):
        read(b'{"token_ids": [1')
    with pytest.raises(TraceError, match="holds no document"):
        read(b"\n\n")


# --- a batch of verl --------------------------------------------------------------------------------------------------


def batch(**changes: Any) -> bytes:
    """Two samples of a sequence of 5, 2 of them response: left padding, right padding, zero filler in the last row."""
    rows = np.zeros((2, 5, 1, 2), np.int32)
    rows[0, 1:4] = ROWS
    rows[1, 0:3] = ROWS
    tensors = {
        "routed_experts": rows,
        "input_ids": np.array([[0, 5, 6, 7, 8], [4, 5, 6, 7, 0]]),
        "attention_mask": np.array([[0, 1, 1, 1, 1], [1, 1, 1, 1, 0]]),
        "rollout_log_probs": np.array([[-1, -2], [-3, 0]], np.float32),
    }
    kept = {name: value for name, value in (tensors | changes).items() if value is not None}
    return safetensors.numpy.save(kept, {"logprob_temperature": "1.0"})


def test_a_batch_loses_its_padding_and_its_filler() -> None:
    content = batch()
    assert is_table(content)
    first, second = (document.trace for document in read(content))
    assert first.data["expert_id"].values.tolist() == [*ROWS, [[-1, -1]]]
    assert [token.id for token in second.tokens] == [4, 5, 6, 7]
    assert [token.generated for token in second.tokens] == [False, False, False, True]
    np.testing.assert_array_equal(first.data["logprob"].values, np.array([np.nan, np.nan, -1, -2], np.float32))
    np.testing.assert_array_equal(second.data["logprob"].values, np.array([np.nan, np.nan, np.nan, -3], np.float32))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"attention_mask": None}, "the batch lacks attention_mask"),
        ({"old_log_probs": np.zeros((2, 2), np.float32)}, "has rollout_log_probs and old_log_probs; keep those"),
        ({"rollout_log_probs": np.zeros((2, 9), np.float32)}, r"must be floating-point numbers \[batch, response\]"),
        ({"attention_mask": np.zeros((2, 5))}, "sample 0: its attention_mask keeps no token"),
        ({"attention_mask": np.ones((2, 5))}, "sample 0: .*one expert in every slot of row 0"),
        ({"input_ids": np.zeros((2, 4), np.int64)}, r"for each of input_ids"),
    ],
)
def test_batches_that_are_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(TraceError, match=complaint):
        read(batch(**changes))


def test_a_damaged_batch_is_refused() -> None:
    with pytest.raises(TraceError, match="the safetensors file is damaged"):
        read(batch()[:-3])
