"""Files that would take all memory or minutes are refused before they are parsed; the error names the bound."""

import time
from collections.abc import Callable

import numpy as np
import pytest

from model.trace import limits
from model.trace.imports.formats import read
from model.trace.trace import TraceError
from tests import engines
from tests.engines import TINY, as_json

MANY: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "objects": (lambda: b"[" + b"{}," * 1_000_001 + b"{}]", "auto", "more than the 1,000,000 that are read"),
    "lists": (lambda: b"[" * 4_000_001, "auto", "4,000,001 lists"),
    "values": (lambda: b'{"choices":[' + b"1," * 16_000_001 + b"1]}", "auto", "16,000,001 values"),
    "strings": (lambda: b"[" + b'"",' * 4_000_001 + b"1]", "auto", "quotes"),
    "rows": (lambda: b"1,2\n" * (limits.MOST_CSV_ROWS + 1), "auto", "8,388,609 rows"),
    "batches": (lambda: b"2,2\n1,2\n" * (limits.MOST_BATCHES + 1), "auto", "batches"),
    "header": (lambda: (2 << 20).to_bytes(8, "little") + b"{" + b" " * 100, "router-logits", "bytes of header"),
}


@pytest.mark.parametrize("name", MANY)
def test_a_bound_is_said_before_anything_is_parsed(name: str) -> None:
    make, form, message = MANY[name]
    content, start = make(), time.process_time()
    with pytest.raises(TraceError, match=message) as caught:
        read(content, form, TINY)
    assert "record fewer tokens at a time" in str(caught.value)
    assert time.process_time() - start < 5


def test_what_engines_send_stays_within_the_bounds() -> None:
    """8,000 tokens of the released V3, as lists: the count of lists and values per token, times 8,000."""
    ids = engines.random_ids(40, 61, 256, 8)
    content = as_json({"choices": [{"routed_experts": ids.tolist()}]})
    bounds = limits.ANSWER
    for mark, most in ((b"[", bounds.lists), (b",", bounds.values), (b'"', bounds.quotes), (b"{", bounds.objects)):
        assert content.count(mark) / 40 * 8_000 < most
    limits.check_json(content, bounds)


def test_runs_of_a_dump_are_bounded() -> None:
    dump = engines.recorder_dump(engines.random_ids(1))
    number = limits.MOST_RUNS + 1
    record = dump["records"][0]
    record |= {"input_ids": [1] * number, "positions": [0] * number, "extend_seq_lens": [1] * number}
    record["topk_ids_of_layer"] = np.repeat(np.array(record["topk_ids_of_layer"]), number, 1).tolist()
    with pytest.raises(TraceError, match="1,025 runs"):
        read(as_json(dump), "recorder", TINY)
