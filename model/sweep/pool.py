"""Route shards in a pool of Ray actors: one shard at a time in each, and a new worker for one that died."""

import collections
import contextlib
import dataclasses
import functools
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from model.sweep.cluster import ray_of
from model.sweep.settings import Failure, Settings, Summary, SweepError, Workers

ATTEMPTS = 3
Result = Summary | Failure


def in_a_pool(
    workers: Workers, sweeper: Callable[[Settings], Any], on_note: Callable[[str], None] = lambda note: None
) -> Callable[[Settings, Sequence[int]], Generator[Result, None, None]]:
    """Return a function that routes shards in several processes and yields their results as they finish.

    The function raises `SweepError` if Ray does not start, no worker can load the model, or `route` raised it; and
    `OSError` if a part cannot be written, as on a full disk. The parts of finished shards stay.

    Args:
        workers: how many processes, and where.
        sweeper: makes the object whose `route` takes a shard; every worker calls it once.
        on_note: called with a sentence about a worker that died.
    """

    def results(settings: Settings, shards: Sequence[int]) -> Generator[Result, None, None]:
        if not shards:
            return
        gpus = float(settings.device.startswith("cuda")) if workers.gpus_each is None else workers.gpus_each
        number, make = workers.number, functools.partial(sweeper, _absolute(settings))
        with ray_of(Path(settings.out), dataclasses.replace(workers, gpus_each=gpus)) as ray:
            pool = _Pool(ray, make, number, gpus, on_note)
            try:
                yield from pool.results(shards)
            finally:
                pool.end()

    return results


def _absolute(settings: Settings) -> Settings:
    """Return the settings with whole paths: a worker has another working directory."""
    model = str(Path(settings.model).absolute()) if Path(settings.model).is_dir() else settings.model
    paths = tuple(str(Path(path).absolute()) for path in settings.paths)
    return dataclasses.replace(settings, model=model, paths=paths, out=str(Path(settings.out).absolute()))


class _Worker:
    """Runs in its own process; returns errors as values, so that only a death of the process is an error of Ray."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._error: Exception | None = None
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
        try:
            self._sweeper = make()
        except Exception as error:  # noqa: BLE001 - `ready` returns it
            self._error = _ending(error)

    def ready(self) -> Exception | None:
        """Return the error that loading the model raised."""
        return self._error

    def route(self, shard: int) -> Result | Exception:
        """Return the summary of a shard, its failure, or the error that ends the sweep."""
        try:
            return self._sweeper.route(shard)
        except (OSError, SweepError) as error:
            return _ending(error)
        except Exception as error:  # noqa: BLE001
            return Failure(shard, _line(error))


def _end_with(parent: int) -> None:
    """End this process soon after its parent: an actor in the middle of a shard outlives a Ray that was killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


class _Pool:
    """The actors and what they do. A worker that died is replaced by a new actor, which loads the model again."""

    def __init__(
        self, ray: Any, make: Callable[[], Any], number: int, gpus: float, on_note: Callable[[str], None]
    ) -> None:
        self._ray, self._make, self._on_note = ray, make, on_note
        self._worker = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(_Worker)
        self._running: dict[Any, tuple[Any, int | None]] = {}  # result to come -> its actor and shard; None: loading
        self._idle: list[Any] = []
        self._deaths: collections.Counter[int | None] = collections.Counter()
        for _ in range(number):
            self._add()

    def results(self, shards: Iterable[int]) -> Iterator[Result]:
        """Yield the result of each shard as it comes."""
        waiting = collections.deque(shards)
        while True:
            while waiting and self._idle:
                actor, shard = self._idle.pop(), waiting.popleft()
                self._running[actor.route.remote(shard)] = actor, shard
            if not waiting and all(shard is None for _, shard in self._running.values()):
                return
            result = self._next(waiting)
            if isinstance(result, Exception):
                raise result
            if result is not None:
                yield result

    def end(self) -> None:
        """Kill the actors, which would outlive this process on an operator's cluster."""
        for actor in [*self._idle, *(actor for actor, _ in self._running.values())]:
            self._ray.kill(actor)

    def _add(self) -> None:
        actor = self._worker.remote(self._make)
        self._running[actor.ready.remote()] = actor, None

    def _next(self, waiting: collections.deque[int]) -> Result | Exception | None:
        """Wait until a worker has loaded, finished or died; return a result, the error that ends the sweep, or None."""
        done = []
        while not done:  # it can return early with none
            done, _ = self._ray.wait(list(self._running), timeout=60)
        actor, shard = self._running.pop(done[0])
        try:
            result = self._ray.get(done[0])
        except self._ray.exceptions.RayError:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.kill(actor)
            return self._died(shard, waiting)
        self._idle.append(actor)
        return result

    def _died(self, shard: int | None, waiting: collections.deque[int]) -> Result | Exception | None:
        """Put the shard of a dead worker first in the queue, or give it up; replace the worker if it is needed."""
        self._deaths[shard] += 1
        failure, again = None, self._deaths[shard] < ATTEMPTS
        if shard is None and not again:
            return SweepError(f"{ATTEMPTS} workers died while they loaded the model; is there memory for each of them?")
        if shard is not None and again:
            waiting.appendleft(shard)
            self._on_note(f"a worker died with shard {shard}, which is tried again")
        elif shard is not None:
            failure = Failure(shard, f"{ATTEMPTS} workers died with this shard; is there memory for each of them?")
        if len(waiting) > len(self._idle):
            self._add()
        return failure


def _ending(error: Exception) -> Exception:
    """Return an error that can be pickled, and whose line is of use without its traceback."""
    if isinstance(error, OSError) and error.strerror:
        return OSError(error.errno, error.strerror, error.filename)
    return SweepError(_line(error))


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"[:300]
