import contextlib
import threading
from types import SimpleNamespace

import pytest
import streamlit as st

from model.run.request import RunRequest
from pages.common import jobs, limits, runs
from pages.common.runs import Run
from tests.pages.fakes import FakeEngine


class Ended(BaseException):
    """Stands for Streamlit's control exceptions, which no `except Exception` sees."""


class Place:
    """A placeholder that ends the script at its n-th write."""

    def __init__(self, last: int = 10**9) -> None:
        self.left, self.said = last, []

    def progress(self, share: float, text: str) -> None:
        self.said.append((share, text))
        self.left -= 1
        if self.left <= 0:
            raise Ended


@pytest.fixture
def quiet_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Feed:
        def __init__(self, header: object) -> None: ...

        def follow(self, steps):
            return (yield from steps)

    live = SimpleNamespace(Feed=Feed, header_for=lambda *_: None)
    monkeypatch.setattr(runs, "live", live)
    monkeypatch.setattr(jobs, "SECONDS_BETWEEN_PROGRESS", 0)


def new_run(new: int = 4) -> Run:
    return Run(1, "run", RunRequest(prompt="a", max_new_tokens=new))


@pytest.mark.usefixtures("quiet_feed")
def test_complete_run() -> None:
    run, place = new_run(), Place()
    runs.execute(run, FakeEngine(), place)
    assert run.trace is not None
    assert (run.trace.num_tokens, run.complete, run.stopped, run.waiting) == (10, True, False, False)
    assert [share for share, _ in place.said] == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.usefixtures("quiet_feed")
def test_script_ended_from_outside_leaves_the_partial_trace() -> None:
    run = new_run()
    with pytest.raises(Ended):
        runs.execute(run, FakeEngine(), Place(last=3))
    assert run.trace is not None
    assert (run.trace.num_tokens, run.stopped, run.done.is_set()) == (8, True, True)


@pytest.mark.usefixtures("quiet_feed")
def test_second_script_does_not_run_it_again_but_waits_for_its_end() -> None:
    run, engine = new_run(), FakeEngine()
    assert run.claim()
    threading.Timer(0.05, run.done.set).start()
    runs.execute(run, engine, Place())
    assert run.cancel.is_set()
    assert run.done.is_set()
    assert engine.requests == []


@pytest.mark.usefixtures("quiet_feed")
def test_run_that_gives_up_in_the_queue_takes_no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "TURNS", threading.Semaphore(0))
    run, engine, place = new_run(), FakeEngine(), Place(last=1)
    with pytest.raises(Ended):
        runs.execute(run, engine, place)
    assert f"{limits.CONCURRENT_RUNS} other runs are going on" in place.said[0][1]
    assert (run.trace, engine.requests) == (None, [])
    assert run.error == "it was stopped before its turn came"


@pytest.mark.usefixtures("quiet_feed")
def test_turns_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = threading.Semaphore(1)
    monkeypatch.setattr(jobs, "TURNS", turns)
    for place in (Place(), Place(last=2)):
        with contextlib.suppress(Ended):
            runs.execute(new_run(), FakeEngine(), place)
        assert turns.acquire(blocking=False)
        turns.release()


def test_run_that_nobody_watches_is_kept_for_the_next_who_asks_unless_it_was_stopped() -> None:
    st.cache_resource.clear()
    engine, first, second = FakeEngine(), new_run(), new_run()
    engine.on_step = lambda step, cancel: cancel.set() if step == 8 and cancel else None
    runs.execute_unseen(first, Place(), lambda: engine)
    assert first.trace is not None
    assert (first.trace.num_tokens, first.stopped) == (8, True)
    engine.on_step = lambda step, cancel: None
    for run in (second, new_run()):
        runs.execute_unseen(run, Place(), lambda: engine)
        assert run.trace is not None
        assert (run.trace.num_tokens, run.complete) == (10, True)
    assert len(engine.requests) == 2


@pytest.mark.parametrize("last", [1, 2], ids=["while the model is loaded", "after a layer"])
def test_run_from_disk_that_is_ended_from_outside_says_that_there_is_nothing(last: int) -> None:
    run, engine = new_run(0), FakeEngine()
    engine.disk = object()
    with pytest.raises(Ended):
        runs.execute_unseen(run, Place(last), lambda: engine)
    assert (run.trace, run.error) == (None, "it was stopped before there was anything to show")


def test_prompt_of_too_many_tokens_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PROMPT_TOKENS", 5)
    with pytest.raises(ValueError, match="the prompt has 6 tokens, at most 5 are run here; shorten it"):
        runs.fit(new_run(), FakeEngine())
