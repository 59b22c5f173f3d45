import base64
import json
import struct
from collections.abc import Generator
from types import SimpleNamespace

import numpy as np
import pytest

from model.run.request import Capture, RunRequest
from pages.common import live
from tests.layouts import layout
from tests.traces import random_trace
from viz.lens import wire

HEADER = wire.Header(run=1, moe_layers=(), layout=layout(8, 2), running=True)


class Place:
    """Stands for the place on the page, and for the clock that each tick is written at."""

    def __init__(self) -> None:
        self.now, self.written = 100.0, []

    def html(self, element: str) -> None:
        self.written.append((self.now, element))


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    stand_in = Place()
    monkeypatch.setattr(live.st, "container", lambda key: stand_in)
    monkeypatch.setattr(live.time, "monotonic", lambda: stand_in.now)
    return stand_in


def steps(place: Place, count: int, seconds: float) -> Generator[SimpleNamespace, None, str]:
    for i in range(count):
        token = SimpleNamespace(id=i, start=i, end=i + 1, generated=False, special=False)
        yield SimpleNamespace(start=i, tokens=(token,), text=b"x" * (i + 1), arrays={"logprob": np.zeros(1, "f4")})
        place.now += seconds
    return "the trace"


def follow(feed: live.Feed, source: Generator) -> tuple[int, str]:
    passed, follower = 0, feed.follow(source)
    while True:
        try:
            next(follower)
        except StopIteration as finished:
            return passed, finished.value
        passed += 1


def header_in(message: bytes) -> dict:
    (length,) = struct.unpack_from("<I", message)
    return json.loads(message[4 : 4 + length])


def test_feed_passes_every_step_on_and_returns_the_trace(place: Place) -> None:
    assert follow(live.Feed(HEADER), steps(place, 30, 0.001)) == (30, "the trace")


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


def test_feed_writes_at_most_10_ticks_a_second_and_every_step_once(place: Place) -> None:
    follow(live.Feed(HEADER), steps(place, 500, 0.01))
    times = [when for when, _ in place.written[:-1]]
    assert min(np.diff(times)) >= 1 / live.TICKS_PER_SECOND - 1e-9
    assert len(times) >= 40
    assert [start for _, element in place.written for start in tokens_in(element)] == list(range(500))
    names = [element.split('"')[1] for _, element in place.written]
    assert names == [f"1.{n}" for n in range(1, len(names) + 1)]


def test_feed_writes_slow_steps_at_once(place: Place) -> None:
    follow(live.Feed(HEADER), steps(place, 5, 0.5))
    assert len(place.written) == 5


def test_header_of_a_trace_has_its_axes() -> None:
    trace = random_trace(num_layers=4, num_experts=8, num_groups=4, num_kept=2, top_k=2, num_heads=3)
    header = header_in(live.snapshot_of(trace, 9))
    assert header == {
        "run": 9, "moe_layers": [1, 2, 3], "num_experts": 8, "num_groups": 4, "kept_groups": 2, "top_k": 2,
        "attention_layers": [0, 1, 2, 3], "heads": [0, 1, 2], "running": False,
    }  # fmt: skip


def test_announced_run_has_the_axes_that_the_request_asks_for() -> None:
    config = SimpleNamespace(
        moe_layers=range(1, 4), num_experts=8, num_groups=4, num_kept_groups=2, top_k=2, num_layers=4, num_heads=3
    )
    router_only = RunRequest(prompt="a")
    header = header_in(live.announce(SimpleNamespace(config=config), router_only, 2))
    assert (header["moe_layers"], header["attention_layers"], header["heads"]) == ([1, 2, 3], [], [])
    some = RunRequest(prompt="a", capture=Capture(frozenset({"attention"}), layers=(3, 1)))
    header = header_in(live.announce(SimpleNamespace(config=config), some, 2))
    assert (header["attention_layers"], header["heads"], header["running"]) == ([1, 3], [0, 1, 2], True)
