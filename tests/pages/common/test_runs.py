from typing import Any

import pytest

from model.run.request import RequestError, RunRequest
from model.run.turns import Turns
from pages.common import jobs, limits, live, runs
from pages.common.runs import Run
from tests.pages.fakes import FakeEngine
from viz.lens import wire


def new_run(new: int = 4) -> Run:
    return Run(1, "run", RunRequest(prompt="a", max_new_tokens=new))


def ended(run: Run, engine: FakeEngine) -> Run:
    """The run as a job, at its end."""
    jobs.begin(run, lambda: runs.record(run, engine))
    assert run.done.wait(30)
    return run


def test_complete_run(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[tuple[float, str]] = []
    monkeypatch.setattr(Run, "advance", lambda run, share, text: reported.append((share, text)))
    run = ended(new_run(), FakeEngine())
    assert run.trace is not None
    assert (run.trace.num_tokens, run.complete, run.stopped, run.waiting) == (10, True, False, False)
    assert [share for share, _ in reported] == [0, 0.25, 0.5, 0.75, 1]
    assert reported[2][1].startswith("2 of 4 new tokens, ")


def test_steps_are_packed_for_the_lens_until_the_run_is_packed_as_a_whole() -> None:
    run = ended(new_run(), FakeEngine())
    assert run.header is not None
    assert (run.header.run, run.header.running, len(run.blocks)) == (1, True, 5)
    assert run.snapshot() is run.snapshot()
    assert run.blocks == []


def test_pages_that_see_the_axes_of_a_run_see_its_steps_too(monkeypatch: pytest.MonkeyPatch) -> None:
    run, header_for, before = new_run(), live.header_for, []

    def noted(*arguments: Any) -> wire.Header:
        before.append(run.blocks)
        return header_for(*arguments)

    monkeypatch.setattr(live, "header_for", noted)
    ended(run, FakeEngine())
    assert before[0] is run.blocks


def test_stopped_run_has_the_steps_so_far_and_is_not_called_stopped_before_it_ends() -> None:
    run, engine, seen = new_run(), FakeEngine(), []
    engine.on_step = lambda step, cancel: (seen.append(run.stopped), run.stop(), run.stop()) if step == 8 else None
    ended(run, engine)
    assert run.trace is not None
    assert (run.trace.num_tokens, run.stopped, run.complete, run.error, seen) == (8, True, False, None, [False])


def test_turns_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(1)
    monkeypatch.setattr(jobs, "TURNS", turns)
    for engine in (FakeEngine(), Refusing()):
        ended(new_run(), engine)
        ticket = turns.join()
        assert turns.begin(ticket, 0)
        turns.leave(ticket)


class Refusing(FakeEngine):
    def encode(self, request: RunRequest) -> list[int]:
        raise RequestError("refused")


def test_finished_run_is_kept_for_the_next_visitor_unless_it_was_stopped() -> None:
    cache, engine, first, second = {}, FakeEngine(), new_run(), new_run()
    engine.on_step = lambda step, cancel: cancel.set() if step == 8 and cancel else None
    runs.recall_or_record(first, engine, cache)
    assert first.trace is not None
    assert (first.trace.num_tokens, cache) == (8, {})
    engine.on_step = lambda step, cancel: None
    for run in (second, new_run()):
        runs.recall_or_record(run, engine, cache)
        assert run.trace is not None
        assert run.trace.num_tokens == 10
    assert len(engine.requests) == 2


def test_prompt_of_too_many_tokens_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PROMPT_TOKENS", 5)
    with pytest.raises(ValueError, match="the prompt has 6 tokens, at most 5 are run here; shorten it"):
        runs.fit(new_run(), FakeEngine())
