import base64
import json
import struct
from types import SimpleNamespace

import numpy as np
import pytest

from model.run.abilities import Abilities
from model.run.request import Capture, RunRequest
from pages.common import live
from tests.layouts import layout
from tests.traces import random_trace
from viz.lens import wire

HEADER = wire.Header(run=1, moe_layers=(), layout=layout(8, 2), running=True)


class Place:
    """Stands for the placeholder of the hidden elements."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def html(self, element: str) -> None:
        self.written.append(element)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    stand_in = Place()
    monkeypatch.setattr(live.st, "container", lambda key: stand_in)
    return stand_in


def block(i: int) -> bytes:
    token = SimpleNamespace(id=i, start=i, end=i + 1, generated=False, special=False)
    return wire.pack_block(i, (token,), b"x" * (i + 1), {"logprob": np.zeros(1, "f4")})


def header_in(message: bytes) -> dict:
    (length,) = struct.unpack_from("<I", message)
    return json.loads(message[4 : 4 + length])


def tokens_in(element: str) -> list[int]:
    """The first token of each block of a tick."""
    message = base64.b64decode(element.split('data-lens="')[1].split('"')[0])
    (at,) = struct.unpack_from("<I", message)
    at, starts = at + 4, []
    while at < len(message):
        size, start = struct.unpack_from("<2I", message, at)
        starts.append(start)
        at += size
    return starts


def test_feed_sends_each_step_once_and_numbers_ticks_by_their_last_step(place: Place) -> None:
    blocks: list[bytes] = []
    feed = live.Feed(HEADER, blocks)
    feed.send()
    for batch in ((0, 1, 2), (3,), (), (4, 5)):
        blocks += map(block, batch)
        feed.send()
    assert [tokens_in(element) for element in place.written] == [[0, 1, 2], [3], [4, 5]]
    assert [element.split('"')[1] for element in place.written] == ["1.3", "1.4", "1.6"]
    live.Feed(HEADER, blocks).send()  # the visitor left the page and came back
    assert tokens_in(place.written[-1]) == [0, 1, 2, 3, 4, 5]
    assert place.written[-1].split('"')[1] == "1.6"


def test_header_of_a_trace_has_its_axes() -> None:
    trace = random_trace(num_layers=4, num_experts=8, num_groups=4, num_kept=2, top_k=2, num_heads=3)
    header = header_in(live.snapshot_of(trace, 9))
    assert header == {
        "run": 9, "moe_layers": [1, 2, 3], "num_experts": 8, "num_groups": 4, "kept_groups": 2, "top_k": 2,
        "attention_layers": [0, 1, 2, 3], "heads": [0, 1, 2], "running": False,
    }  # fmt: skip


def test_announced_run_has_the_axes_that_the_request_asks_for() -> None:
    shape = SimpleNamespace(
        moe_layers=range(1, 4), num_experts=8, num_groups=4, num_kept_groups=2, top_k=2, num_layers=4, num_heads=3
    )
    engine, router_only = SimpleNamespace(shape=shape, abilities=Abilities()), RunRequest(prompt="a")
    header = header_in(live.announce(live.header_for(engine, router_only, 2)))
    assert (header["moe_layers"], header["attention_layers"], header["heads"]) == ([1, 2, 3], [], [])
    some = RunRequest(prompt="a", capture=Capture(frozenset({"attention"}), layers=(3, 1)))
    header = header_in(live.announce(live.header_for(engine, some, 2)))
    assert (header["attention_layers"], header["heads"], header["running"]) == ([1, 3], [0, 1, 2], True)
    hybrid = SimpleNamespace(shape=shape, abilities=Abilities(attention_layers=(0, 2)))
    everywhere = RunRequest(prompt="a", capture=Capture(frozenset({"attention"})))
    assert header_in(live.announce(live.header_for(hybrid, everywhere, 2)))["attention_layers"] == [0, 2]
