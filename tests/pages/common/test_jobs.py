import threading

import pytest

from model.run.turns import Turns
from pages.common import jobs
from pages.common.jobs import Job


@pytest.fixture(autouse=True)
def _one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    visitor = jobs.Visitor()
    monkeypatch.setattr(jobs, "_of_session", lambda: visitor)


class Place:
    def __init__(self) -> None:
        self.said: list[str] = []

    def progress(self, share: float, text: str) -> None:
        self.said.append(text)


def test_one_queue_for_all_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "TURNS", Turns(1))
    first, second, place, worked, began = Job(), Job(), Place(), [], threading.Event()

    def work() -> None:
        began.set()
        assert first.cancel.wait(30)

    jobs.begin(first, work)
    assert began.wait(30)
    place.progress = lambda share, text: (place.said.append(text), first.stop() if text else None)  # type: ignore[method-assign]
    jobs.execute(second, place, lambda: worked.append(1))  # type: ignore[arg-type]
    assert any("large runs are going on; yours starts when one of them ends" in text for text in place.said)
    assert worked == [1]
    assert (first.complete, second.complete) == (False, True)
    assert (first.waiting, second.waiting) == (False, False)


class Ended(BaseException):
    """Stands for Streamlit's control exceptions, which no `except Exception` sees."""


def test_job_goes_on_when_the_script_that_follows_it_ends() -> None:
    job, place, worked, leave, calls = Job(), Place(), [], threading.Event(), []

    def end(share: float, text: str) -> None:
        raise Ended

    place.progress = end  # type: ignore[method-assign]
    with pytest.raises(Ended):
        jobs.execute(job, place, lambda: worked.append(leave.wait(30)))  # type: ignore[arg-type]
    assert job.waiting
    threading.Timer(0.2, leave.set).start()
    jobs.execute(job, again := Place(), lambda: worked.append("again"))  # type: ignore[arg-type]
    jobs.follow(job, Place(), lambda: calls.append(1))  # type: ignore[arg-type]
    assert (worked, job.complete, calls) == ([True], True, [1])
    assert again.said


def test_one_that_is_stopped_in_the_queue_takes_no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "TURNS", Turns(0))
    job, worked = Job(), []
    jobs.begin(job, lambda: worked.append(1))
    assert job.waiting
    job.stop()
    job.stop()  # again is harmless
    assert job.done.wait(30)
    assert (job.error, job.complete, worked) == ("it was stopped before its turn came", False, [])


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (ValueError("no such expert"), "no such expert"),
        (OSError("gone"), "gone"),
        (MemoryError(), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "out of memory"),
        (KeyError("router"), "the computation failed: 'router'"),
        (RuntimeError("sizes do not fit\nbacktrace"), "the computation failed: sizes do not fit"),
    ],
)
def test_what_goes_wrong_is_told_and_the_turn_given_back(
    monkeypatch: pytest.MonkeyPatch, problem: Exception, said: str
) -> None:
    turns = Turns(1)
    monkeypatch.setattr(jobs, "TURNS", turns)

    def work() -> None:
        raise problem

    job = Job()
    jobs.execute(job, Place(), work)  # type: ignore[arg-type]
    assert job.error is not None
    assert said in job.error
    assert not job.complete
    assert turns.begin(turns.join(), 0)


def test_the_oldest_go_when_there_are_too_many() -> None:
    kept: dict[str, int] = {}
    for key in ("a", "b", "a", "c"):
        jobs.keep(kept, key, len(kept), 2)
    assert list(kept) == ["a", "c"]
