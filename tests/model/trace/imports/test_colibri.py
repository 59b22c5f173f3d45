"""colibri's usage history and ROUTE_TRACE: what comes back, and what is refused."""

import doctest
import struct

import numpy as np
import pytest

from model.trace.imports import COLIBRI, colibri
from model.trace.imports.building import Named
from model.trace.imports.count_formats import read_counts
from model.trace.imports.formats import detect, read
from model.trace.trace import TraceError
from tests import engines
from tests.engines import CONFIG, TINY

WITH_MODULE = Named("tiny", CONFIG | {"num_nextn_predict_layers": 1})
COUNTS = np.random.default_rng(1).integers(0, 50, (4, 16)) * 4
IDS = engines.random_ids()
WEIGHTS = np.random.default_rng(2).random(IDS.shape).round(4)


def refused(content: bytes, named: Named = TINY) -> str:
    with pytest.raises(TraceError) as caught:
        read_counts(content, named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def binary(counts: np.ndarray, layers: int = 5) -> bytes:
    dense = np.zeros((layers, counts.shape[1]), "<u4")
    dense[1 : 1 + len(counts)] = counts
    return b"IKU1" + struct.pack("<II", *dense.shape) + dense.tobytes()


def test_worked_example() -> None:
    """The published value of FNV-1a for "a"."""
    assert doctest.testmod(colibri) == (0, 1)


@pytest.mark.parametrize("headers", [True, False])
def test_counts_of_a_history_come_back(headers: bool) -> None:
    counts = read_counts(engines.usage_history(COUNTS, headers=headers), TINY)
    assert counts.windows.dims == ("window", "moe_layer", "expert")
    assert np.array_equal(counts.total, COUNTS)
    assert counts.total["moe_layer"].values.tolist() == [1, 2, 3, 4]
    assert counts.program == ("colibri (olmoe)" if headers else "colibri")
    assert "COLI_USAGE_DECAY" in counts.notes[0]


def test_a_binary_history_comes_back() -> None:
    counts = read_counts(binary(COUNTS), TINY)
    assert np.array_equal(counts.total, COUNTS)
    assert counts.program == "colibri (inkling)"
    assert "bytes" in refused(binary(COUNTS)[:-1])
    assert "16 experts in 6 layers; the model named has 16 in 5" in refused(binary(COUNTS, 6))
    assert "0 experts in 0 layers" in refused(b"IKU1\x01")


def test_the_prediction_module_is_left_out_and_said() -> None:
    content = engines.usage_history(COUNTS) + b"5 3 70\n"
    counts = read_counts(content, WITH_MODULE)
    assert "counts experts in L5" in refused(content)  # a model without one does not have this layer
    assert np.array_equal(counts.total, COUNTS)
    assert "L5, the prediction module, is left out" in counts.notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((b"-1 5 16", b"-1 6 16"), "counts 16 experts in 6 layers; the model named has 16 in 5"),
        ((b"-2 1 ", b"-2 2 "), "version 2"),
        ((b"\n1 ", b"\n1,"), "line 3 is"),
        ((b"\n1 ", b"\n7 "), "line 3 counts expert"),
        ((b"\n1 ", b"\n0 "), "counts experts in L0; the model named has them in L1 to L4"),
        ((b"\n1 1 ", b"\n1 0 "), "of L1 again"),
    ],
)
def test_a_damaged_history_is_refused(change: tuple[bytes, bytes], message: str) -> None:
    content = engines.usage_history(np.maximum(COUNTS, 4))
    assert message in refused(content.replace(*change, 1))


def test_a_layer_that_counts_nothing_is_unrecorded() -> None:
    silent = COUNTS.copy()
    silent[2] = 0
    assert "counts nothing in L3: its routing was not recorded" in refused(engines.usage_history(silent))


def test_routes_come_back_with_their_weights() -> None:
    content = engines.route_trace(IDS, WEIGHTS)
    assert detect(content) == COLIBRI
    trace = read(content, "auto", TINY)
    order = np.argsort(-WEIGHTS, -1)
    assert np.array_equal(trace.data["expert_id"], np.take_along_axis(IDS, order, -1))
    assert np.allclose(trace.data["gate_weight"], np.take_along_axis(WEIGHTS, order, -1))
    assert [token.generated for token in trace.tokens] == [False] * 4 + [True] * 2
    assert any("where a run begins" in note for note in trace.origin["notes"])
    assert not any("the strongest is unknown" in note for note in trace.origin["notes"])
    module = engines.route_trace(IDS[:1, :1], WEIGHTS[:1, :1], (1,), first=5).replace(b"0 0 5", b"99 0 5")
    again = read(content + module, "auto", WITH_MODULE)
    assert np.array_equal(again.data["expert_id"], trace.data["expert_id"])
    assert "the rows of the prediction module are left out" in again.origin["notes"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((b"\n0 1 1", b"\n0 2 1"), "rows of call 0 are not in order"),
        ((b"\n0 1 1", b"\n0 1 2"), "rows of call 0 are not in order, or name two layers"),
        ((b"0 0 1 ", b"0 0 x "), "line 1 is '0 0 x "),
        ((b":0.", b" 0."), "line 1 is"),
        ((b"\n8 0 1", b"\n8 0 9"), "forward pass has"),
    ],
)
def test_damaged_routes_are_refused(change: tuple[bytes, bytes], message: str) -> None:
    content = engines.route_trace(IDS, WEIGHTS)
    for damaged in (content.replace(*change, 1), content.replace(b"\n", b"\r\n").replace(*change, 1)):
        with pytest.raises(TraceError, match=message):
            read(damaged, COLIBRI, TINY)


def test_routes_of_another_model_or_of_nothing_are_refused() -> None:
    content = engines.route_trace(IDS, WEIGHTS)
    for named, message in (
        (Named("k", CONFIG | {"num_experts_per_tok": 3}), "line 1 has 4 experts; the model named takes 3"),
        (Named("e", CONFIG | {"n_routed_experts": 8}), "names expert"),
        (Named("l", CONFIG | {"num_hidden_layers": 4}), "in the layers"),
    ):
        with pytest.raises(TraceError, match=message):
            read(content, "auto", named)
    for damaged, message in (
        (engines.route_trace(np.zeros_like(IDS), WEIGHTS), "names expert 0 twice"),
        (engines.route_trace(IDS, np.zeros_like(WEIGHTS)), "every weight of the file is 0"),
        (content[:-40], "cut off"),
        (content[: content.index(b"\n11 ") + 1], "cut off"),
    ):
        with pytest.raises(TraceError, match=message):
            read(damaged, "auto", TINY)
