"""Ends a run between two steps, so that its state can be saved."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Turns SIGTERM and SIGINT into a question that the loop asks after each step."""
    received: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    previous = [signal.signal(number, lambda got, frame: received.append(got)) for number in numbers]
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)
