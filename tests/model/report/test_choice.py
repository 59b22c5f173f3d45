"""Which layer, token and head a report shows."""

import dataclasses

import pytest

from model.report.choice import Choice, ReportError, choose
from model.trace.attention import ALL_HEADS
from tests.traces import random_trace, routed


def test_without_a_wish_a_report_shows_the_first_layer_and_head_and_the_last_known_token() -> None:
    assert choose(random_trace()) == Choice(token=9, layer=1, attention_layer=1, head=0)
    assert choose(routed([0, 1], [2, 3], unknown=3)).token == 1


def test_a_dense_layer_keeps_its_attention() -> None:
    assert choose(random_trace(), layer=0) == Choice(token=9, layer=1, attention_layer=0, head=0)
    assert choose(random_trace(), 2, 3, ALL_HEADS, with_text=False) == Choice(3, 2, 2, ALL_HEADS, False)


def test_a_trace_without_attention_or_routing_leaves_them_out() -> None:
    trace = random_trace()
    bare = dataclasses.replace(trace, data=trace.data[["token_id"]])
    assert choose(bare) == Choice(token=9, layer=None, attention_layer=None, head=None)
    with pytest.raises(ReportError, match="layer 3 does not exist; the trace holds no layers to show, so leave it out"):
        choose(bare, layer=3)
    with pytest.raises(ReportError, match="holds no attention, so there is no head 1; leave the head out"):
        choose(bare, head=1)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"layer": 3}, "layer 3 does not exist; the trace holds layers 0 to 2"),
        ({"token": 10}, "token 10 does not exist; the trace holds tokens 0 to 9"),
        ({"head": 2}, "head 2 does not exist; the trace holds heads 0 to 1"),
    ],
)
def test_what_the_trace_does_not_hold_is_refused(wish: dict[str, int], message: str) -> None:
    with pytest.raises(ReportError, match=message):
        choose(random_trace(), **wish)
