"""Several sequences in one file of router logits are separated if the request states them, else refused."""

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from model.trace.imports.formats import read
from model.trace.imports.sequences import later_start
from model.trace.trace import Trace, TraceError
from tests import engines
from tests.engines import as_json

FIRST, SECOND = [0, 7, 8, 9, 5, 6], [0, 3, 4, 11, 1, 1]  # the second ends in padding
MASK = [[1] * 6, [1, 1, 1, 1, 0, 0]]


def batch(noise: float = 0.0) -> np.ndarray:
    """Logits of two sequences, [sequence, token, layer, expert]; both begin with the same token."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 6, 4, 16)).astype(np.float32)
    values[1, 0] = values[0, 0] + noise * rng.normal(size=(4, 16))
    return values


def flat(values: np.ndarray) -> bytes:
    return engines.router_logits(values.reshape(-1, 4, 16))


def scores(trace: Trace) -> np.ndarray:
    return trace.data["router_score"].values


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def refused(content: bytes, request: object = None, choice: int = 0) -> str:
    with pytest.raises(TraceError) as caught:
        read(content, choice=choice, request=None if request is None else as_json(request))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("noise", [0.0, 0.003])
def test_a_flattened_batch_is_refused(noise: float) -> None:
    message = refused(flat(batch(noise)))
    assert "row 6 repeats row 0 in all layers: a second sequence begins there; save each sequence" in message
    assert "row 6 repeats row 0" in refused(flat(batch()), {"token_ids": [*FIRST, *SECOND]})
    assert "6 rows" in refused(flat(batch()[:1]), {"token_ids": [FIRST, SECOND]})
    assert "12 tokens by the engine's count, and 6 ids" in refused(flat(batch(9)), {"token_ids": FIRST})


def test_the_request_tells_them_apart() -> None:
    for name, content in (("token_ids", flat(batch())), ("input_ids", flat(batch()))):
        request = {name: [FIRST, SECOND], "attention_mask": MASK}
        first, second = (read(content, request=as_json(request), choice=choice) for choice in (0, 1))
        assert [token.id for token in first.tokens] == FIRST
        assert [token.id for token in second.tokens] == SECOND[:4]
        assert scores(first) == pytest.approx(sigmoid(batch()[0]), abs=1e-6)
        assert scores(second) == pytest.approx(sigmoid(batch()[1, :4]), abs=1e-6)
        assert "sequence 1 of the 2" in second.origin["notes"][0]
    assert "none of number 2" in refused(flat(batch()), {"token_ids": [FIRST, SECOND]}, choice=2)
    assert "equal length" in refused(flat(batch()), {"token_ids": [FIRST, SECOND[:2]]})
    assert "must have the shape" in refused(flat(batch()), {"token_ids": [FIRST, SECOND], "attention_mask": [[1]]})
    assert "leaves no token" in refused(flat(batch()), {"token_ids": [FIRST] * 2, "attention_mask": [[0] * 6] * 2})


def test_a_batch_axis_tells_them_apart() -> None:
    values = batch()
    content = safetensors.numpy.save({f"router_logits.{layer + 1}": values[:, :, layer].copy() for layer in range(4)})
    for choice in (0, 1):
        trace = read(content, choice=choice)
        assert scores(trace) == pytest.approx(sigmoid(values[choice]), abs=1e-6)
    assert "sequence 1 of the 2 that the file holds, with its padding" in trace.origin["notes"][0]
    assert "none of number 2" in refused(content, choice=2)
    request = as_json({"token_ids": [FIRST, SECOND], "attention_mask": MASK})
    assert [token.id for token in read(content, request=request, choice=1).tokens] == SECOND[:4]


def test_what_stays_uncertain_is_noted() -> None:
    one = flat(batch()[:1])
    assert read(one).origin["notes"] == ["the file does not say where sequences begin; all its rows count as one"]
    assert read(one, request=as_json({"token_ids": FIRST})).origin["notes"] == []
    packed = read(one, request=as_json({"token_ids": [0, 7, 8, 0, 5, 6]}))
    assert "the first token comes again at token 3" in packed.origin["notes"][0]
    assert "after the sigmoid" in read(flat(sigmoid(batch()[:1]))).origin["notes"][0]


@given(length=st.integers(1, 12), repeats=st.integers(1, 4), seed=st.integers(0, 99))
def test_one_token_repeated_is_one_sequence(length: int, repeats: int, seed: int) -> None:
    """Repetitions of the first token have equal rows; another sequence begins only after other rows."""
    rng = np.random.default_rng(seed)
    head = np.repeat(rng.normal(size=(1, 3, 16)), repeats, 0)
    tail = rng.normal(size=(length, 3, 16))
    assert later_start(np.concatenate([head, tail])) is None
    again = later_start(np.concatenate([head, tail, head, tail]))
    assert again == repeats + length or (len(tail) <= repeats and again is None)
