import dataclasses
from typing import Any

import pytest

from model.trace.imports import origin
from model.trace.trace import Trace
from tests.traces import random_trace


def stating(**stated: Any) -> Trace:
    return dataclasses.replace(random_trace(), origin=stated)


@pytest.mark.parametrize(("stated", "kind"), [("measured",) * 2, ("imported",) * 2, ("<b>", "unknown")])
def test_kind_is_what_a_trace_may_state(stated: str, kind: str) -> None:
    assert origin.kind(stating(kind=stated)) == kind
    assert origin.is_imported(stating(kind=stated)) == (kind == "imported")


def test_routing_that_was_worked_out_is_derived() -> None:
    assert origin.routing_kind(stating(kind="imported", derived=["expert_id"])) == "derived"
    assert origin.routing_kind(stating(kind="imported", derived=["router_score"])) == "imported"
    assert origin.routing_kind(stating(kind="measured")) == "measured"


def test_what_a_writer_states_is_read_back() -> None:
    stated = origin.origin("vllm", "json", {"weights": "not written"}, ["a note"], derived=["expert_id"])
    trace = stating(**stated)
    assert origin.missing(trace) == {"weights": "not written"}
    assert (origin.notes(trace), origin.derived(trace)) == (["a note"], ["expert_id"])


def test_other_statements_say_nothing() -> None:
    trace = stating(missing=["x"], notes="x", derived=[1, "expert_id"])
    assert (origin.missing(trace), origin.notes(trace), origin.derived(trace)) == ({}, [], ["expert_id"])
