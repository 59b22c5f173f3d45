import threading
import time

import pytest

from pages.common import jobs
from pages.common.jobs import Job


class Place:
    def __init__(self) -> None:
        self.said: list[str] = []

    def progress(self, share: float, text: str) -> None:
        self.said.append(text)


def test_one_queue_for_what_a_script_drives_and_what_has_a_thread_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "TURNS", threading.Semaphore(1))
    first, second, place, began = Job(), Job(), Place(), threading.Event()

    def work() -> None:
        began.set()
        assert first.cancel.wait(30)

    jobs.begin(first, work)
    assert began.wait(30)
    place.progress = lambda share, text: (place.said.append(text), first.stop())  # type: ignore[method-assign]
    jobs.execute(second, place, lambda: place.said.append("mine"))  # type: ignore[arg-type]
    assert "runs are going on; yours starts when one of them ends" in place.said[0]
    assert place.said[-1] == "mine"
    assert (first.complete, second.complete) == (False, True)
    assert (first.waiting, second.waiting) == (False, False)


def test_one_that_is_stopped_in_the_queue_takes_no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "TURNS", threading.Semaphore(0))
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
        (RuntimeError("sizes do not fit\nbacktrace"), "the computation failed: sizes do not fit"),
    ],
)
def test_what_goes_wrong_is_told_and_the_turn_given_back(
    monkeypatch: pytest.MonkeyPatch, problem: Exception, said: str
) -> None:
    turns = threading.Semaphore(1)
    monkeypatch.setattr(jobs, "TURNS", turns)

    def work() -> None:
        raise problem

    job = Job()
    jobs.execute(job, Place(), work)  # type: ignore[arg-type]
    assert job.error is not None
    assert said in job.error
    assert not job.complete
    assert turns.acquire(blocking=False)


def test_progress_is_shown_at_once_and_then_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [5.0]
    monkeypatch.setattr(jobs, "SECONDS_BETWEEN_PROGRESS", 1)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    place = Place()
    show = jobs.paced(place)  # type: ignore[arg-type]
    for number in range(10):
        show(0.1, str(number))
        now[0] += 0.25
    assert place.said == ["0", "4", "8"]


def test_the_oldest_go_when_there_are_too_many() -> None:
    kept: dict[str, int] = {}
    for key in ("a", "b", "a", "c"):
        jobs.keep(kept, key, len(kept), 2)
    assert list(kept) == ["a", "c"]
