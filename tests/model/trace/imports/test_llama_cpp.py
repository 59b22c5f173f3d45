"""llama.cpp's CSV: batches, the last layer's rows, the copied view, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.trace.imports import LLAMA_CPP
from model.trace.imports.building import Named
from model.trace.imports.formats import detect, read
from model.trace.trace import TraceError
from tests import engines
from tests.engines import CONFIG, TINY

IDS = engines.random_ids()


def test_rows_come_back_by_batch_and_layer() -> None:
    content = engines.moe_trace(IDS)
    trace = read(content, "auto", TINY)
    assert detect(content) == LLAMA_CPP
    assert np.array_equal(trace.data["expert_id"].values[:, :3], IDS[:, :3])
    assert (trace.data["expert_id"].values[:3, 3] == -1).all()  # the last layer computes one token of a batch
    assert np.array_equal(trace.data["expert_id"].values[3:, 3], IDS[3:, 3])
    assert [token.generated for token in trace.tokens] == [False] * 4 + [True] * 2
    assert {token.id for token in trace.tokens} == {-1}
    assert trace.text == b""
    assert "28544" in trace.origin["format"]


def test_a_header_and_all_rows_of_the_last_layer_are_read() -> None:
    content = engines.moe_trace(IDS, last_only=False)
    for made in (content, b"layer,expert\n" + content, content.replace(b"\n", b"\r\n")):
        assert np.array_equal(read(made, "auto", TINY).data["expert_id"].values, IDS)


def test_rankings_in_place_of_choices_are_left_unknown() -> None:
    """A copy that ignores the gaps of the view is a ranking of all experts, not the tokens' experts."""
    ids = engines.random_ids(14)
    trace = read(engines.moe_trace(ids, (12, 1, 1), copied=True), "auto", TINY)
    assert (trace.data["expert_id"].values[:12] == -1).all()
    assert np.array_equal(trace.data["expert_id"].values[12:], ids[12:])
    assert any("1 of 1 batches" in note for note in trace.origin["notes"])
    honest = read(engines.moe_trace(ids, (12, 1, 1)), "auto", TINY)
    assert np.array_equal(honest.data["expert_id"].values[:, :3], ids[:, :3])


def test_broken_files_are_refused() -> None:
    whole = engines.moe_trace(IDS)
    for content, said in (
        (whole[: len(whole) // 2], "cut off"),
        (whole[:-10], "cut off"),
        (whole.replace(b"2,", b"2;", 1), "not a layer and an expert"),
        (whole.replace(b"4,", b"9,"), "layers 1 to 9"),
        (b"1,2,3\n", "not a layer and an expert"),
        (b"1,99999999999\n", "not a layer and an expert"),
        (b"1,-1\n", "not a layer and an expert"),
        (b"layer,expert\n", "no row"),
        (b"1,\xc3\xa4\n", "ASCII"),
        (b"".join(b"%d,%d\n" % (layer, 99) for layer in range(1, 5) for _ in range(4)), "names expert 99"),
        (b"".join(b"%d,3\n" % layer for layer in range(1, 5) for _ in range(4)), "twice"),
    ):
        with pytest.raises(TraceError, match=said) as caught:
            read(content, LLAMA_CPP, TINY)
        assert "\n" not in str(caught.value)


@settings(max_examples=40, deadline=None)
@given(batches=st.lists(st.integers(1, 3), min_size=1, max_size=5), layers=st.integers(2, 4), seed=st.integers(0, 99))
def test_any_batches_come_back(batches: list[int], layers: int, seed: int) -> None:
    """All rows but the last layer's come back; with few experts, no batch looks like a ranking."""
    ids = engines.random_ids(sum(batches), layers, 5, 4, seed)
    config = CONFIG | {"num_hidden_layers": layers + 1, "n_routed_experts": 5, "n_group": 1, "topk_group": 1}
    trace = read(engines.moe_trace(ids, tuple(batches)), LLAMA_CPP, Named("any", config))
    assert np.array_equal(trace.data["expert_id"].values[:, :-1], ids[:, :-1])
