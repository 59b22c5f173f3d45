"""Results that several threads share."""

import gc
import threading
import time
import weakref

import pytest

from model.trace import derived
from tests.traces import random_trace


def test_each_key_is_computed_once_for_many_threads() -> None:
    trace, calls, results = random_trace(), [], []

    def compute() -> list[int]:
        calls.append(1)
        time.sleep(0.05)
        return [7]

    def ask() -> None:
        results.append(derived.derived(trace, ("a", 1), compute))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert all(result is results[0] for result in results)
    assert derived.derived(trace, ("a", 2), lambda: 8) == 8
    assert derived.derived(random_trace(), ("a", 1), lambda: 9) == 9


def test_an_error_is_not_kept() -> None:
    trace = random_trace()
    with pytest.raises(ZeroDivisionError):
        derived.derived(trace, "a", lambda: 1 // 0)
    assert derived.derived(trace, "a", lambda: 1) == 1


def test_results_go_with_their_object_and_the_oldest_are_dropped() -> None:
    traces = [random_trace()]
    for number in range(derived.MOST + 1):
        derived.derived(traces[0], number, lambda: tuple(traces))
    assert derived.derived(traces[0], 0, lambda: "again") == "again"
    assert derived.derived(traces[0], derived.MOST, lambda: "again") == tuple(traces)
    gone = weakref.ref(traces.pop())
    gc.collect()
    assert gone() is None
