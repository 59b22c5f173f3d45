"""Equal requests of several visitors are computed once; each visitor can stop on his own."""

import threading
import time

import numpy as np
import pytest

from model.run.computation import IN_FLIGHT
from model.run.request import RequestError, RunRequest
from model.trace.trace import Trace
from pages.common import jobs, runs
from pages.common.runs import Run
from tests.pages.fakes import FakeEngine


class Gate:
    """Holds an engine's runs before a step until it is opened."""

    def __init__(self, engine: FakeEngine, step: int) -> None:
        self.reached, self.open, self.step = threading.Event(), threading.Event(), step
        engine.on_step = self._on_step

    def _on_step(self, step: int, cancel: threading.Event | None) -> None:
        if step == self.step:
            self.reached.set()
            assert self.open.wait(30)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def begun(engine: FakeEngine, number: int, seed: int = 0) -> Run:
    run = Run(number, "run", RunRequest(prompt="a", max_new_tokens=4, seed=seed))
    jobs.begin(run, lambda: runs.record(run, engine, runs.key_of(run, engine)))
    return run


def alone(engine: FakeEngine) -> Trace:
    """The trace of the request of `begun`, run without sharing."""
    run = Run(9, "run", RunRequest(prompt="a", max_new_tokens=4))
    runs.record(run, engine)
    assert run.trace is not None
    return run.trace


def joined(engine: FakeEngine, count: int) -> list[Run]:
    """Runs of equal requests, of which the first draws the steps and waits before its ninth token."""
    first = begun(engine, 0)
    assert gate_of(engine).reached.wait(30)
    others = [begun(engine, number) for number in range(1, count)]
    while any(not run.blocks for run in others):
        time.sleep(0.001)
    return [first, *others]


def gate_of(engine: FakeEngine) -> Gate:
    return engine.on_step.__self__  # type: ignore[attr-defined]


def trace_of(run: Run) -> Trace:
    assert run.done.wait(30)
    assert run.error is None
    assert run.trace is not None
    return run.trace


def same(a: Trace, b: Trace) -> bool:
    return a.tokens == b.tokens and a.data.identical(b.data)


def test_equal_requests_in_flight_are_computed_once_and_followed_by_all(engine: FakeEngine) -> None:
    gate = Gate(engine, 9)
    everyone = joined(engine, 5)
    assert len({id(run.blocks) for run in everyone}) == 1  # also the steps before a run joined
    assert {run.progress[1].split(",")[0] for run in everyone[:1]} == {"3 of 4 new tokens"}
    gate.open.set()
    expected = alone(FakeEngine())
    assert all(same(trace_of(run), expected) for run in everyone)
    assert [run.header.run for run in everyone if run.header] == [0, 1, 2, 3, 4]
    assert all(run.complete for run in everyone)
    assert len(engine.requests) == 1
    trace_of(begun(engine, 10))  # after the end it is a new computation
    assert (len(engine.requests), IN_FLIGHT) == (2, {})


def test_other_requests_are_not_joined(engine: FakeEngine) -> None:
    gate = Gate(engine, 9)
    first = begun(engine, 0)
    assert gate.reached.wait(30)
    gate.reached.clear()
    second = begun(engine, 1, seed=1)
    assert gate.reached.wait(30)
    gate.open.set()
    assert not same(trace_of(first), trace_of(second))
    assert len(engine.requests) == 2


@pytest.mark.parametrize("stopped", [0, 1])
def test_stop_of_one_does_not_stop_the_others(engine: FakeEngine, stopped: int) -> None:
    gate = Gate(engine, 9)
    everyone = joined(engine, 3)
    everyone[stopped].stop()
    engine.on_step = lambda step, cancel: None  # for the copy of the one that stopped
    gate.open.set()
    assert trace_of(everyone[stopped]).num_tokens in (9, 10)
    assert everyone[stopped].stopped
    others = [run for run in everyone if run is not everyone[stopped]]
    assert [trace_of(run).num_tokens for run in others] == [10, 10]
    assert all(run.complete for run in others)


def test_one_that_stops_keeps_the_tokens_so_far_as_a_run_alone_does(engine: FakeEngine) -> None:
    gate = Gate(engine, 9)
    everyone = joined(engine, 2)
    everyone[1].stop()
    gate.step = -1  # the copy does not wait
    stopped = trace_of(everyone[1])
    gate.open.set()
    assert same(stopped, alone(FakeEngine(lambda step, cancel: cancel.set() if step == 9 and cancel else None)))
    assert trace_of(everyone[0]).num_tokens == 10


def test_one_that_nobody_will_see_computes_nothing_again(engine: FakeEngine) -> None:
    gate = Gate(engine, 9)
    everyone = joined(engine, 2)
    everyone[1].abandon()
    assert everyone[1].done.wait(30)
    assert everyone[1].trace is None
    gate.open.set()
    assert trace_of(everyone[0]).num_tokens == 10


def test_when_all_stop_it_ends_for_all(engine: FakeEngine) -> None:
    gate = Gate(engine, 8)
    everyone = joined(engine, 3)
    for run in everyone:
        run.stop()
    gate.open.set()
    assert [trace_of(run).num_tokens for run in everyone] == [8, 8, 8]
    assert all(run.stopped for run in everyone)
    assert len(engine.requests) == 1


def test_closed_tabs_leave_the_computation_to_the_others(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, visitor = Gate(engine, 9), jobs.Visitor()
    monkeypatch.setattr(jobs, "_of_session", lambda: visitor)
    everyone = joined(engine, 2)
    jobs.stop_with_tab(everyone[0])
    visitor.leave()
    assert everyone[0].orphaned
    engine.on_step = lambda step, cancel: None
    gate.open.set()
    assert (trace_of(everyone[1]).num_tokens, everyone[1].complete) == (10, True)


def test_error_is_that_of_every_run_that_follows(engine: FakeEngine) -> None:
    gate = Gate(engine, 8)
    everyone = joined(engine, 3)

    def fail(step: int, cancel: threading.Event | None) -> None:
        raise RequestError("the logits are not finite")

    engine.on_step = fail
    gate.open.set()
    assert all(run.done.wait(30) for run in everyone)
    assert [run.error for run in everyone] == ["the logits are not finite"] * 3
    assert IN_FLIGHT == {}


def test_random_stops_never_leave_a_run_waiting(engine: FakeEngine) -> None:
    draw = np.random.default_rng(0)

    engine.on_step = lambda step, cancel: time.sleep(0.001)
    for _ in range(20):
        everyone = [begun(engine, number) for number in range(6)]
        for number in draw.permutation(6)[: draw.integers(7)]:
            time.sleep(float(draw.random()) / 200)
            everyone[number].stop()
        assert all(run.done.wait(30) for run in everyone)
        for run in everyone:
            assert (run.trace is None) == (run.error is not None)
            assert run.trace is None or not run.complete or run.trace.num_tokens == 10
    assert IN_FLIGHT == {}
