"""Tests of the process for forward passes: a run there is the same run, and ends as one in the server does."""

import threading
import time
from collections.abc import Iterator
from multiprocessing import Pipe
from pathlib import Path

import pytest
import torch

from model.checkpoint.weights import save_model
from model.run import apart
from model.run.apart import Apart
from model.run.engine import Engine
from model.run.request import Capture, RequestError, RunRequest
from model.run.step import last
from model.run.turns import PASSES
from model.trace.trace import Trace
from tests.models import random_model, tiny_config
from tests.pages.fakes import FakeEngine

pytestmark = pytest.mark.skipif(not apart.POSSIBLE, reason="one core, or no sockets with a path")
REQUEST = RunRequest(
    token_ids=(0, 7, 101, 33), max_new_tokens=12, capture=Capture(frozenset({"router", "attention", "logits"}))
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder: Path = tmp_path_factory.mktemp("tiny")
    save_model(random_model(tiny_config(eos_id=None)), folder, torch.float32)
    return Engine.load(folder, device="cpu")


@pytest.fixture(scope="module")
def process(engine: Engine) -> Iterator[Apart]:
    apart.begin(engine, most_bytes=1, spared_cores=1)
    assert engine not in apart.PROCESSES
    apart.begin(engine, most_bytes=2**30, spared_cores=1)
    process = apart.PROCESSES[engine]
    assert apart.source(engine) is engine  # until the process is ready
    deadline = time.monotonic() + 120
    while not process.ready and time.monotonic() < deadline:
        time.sleep(0.02)
    yield process
    process.end()


def test_run_in_the_process_has_the_same_bits(engine: Engine, process: Apart) -> None:
    assert apart.source(engine) is process
    here, there = engine.run(REQUEST), last(process.stream(REQUEST))
    assert there.data.identical(here.data)
    assert (there.tokens, there.text, there.request, there.model) == (here.tokens, here.text, here.request, here.model)


def test_stopped_run_keeps_the_steps_that_were_taken(process: Apart) -> None:
    cancel = threading.Event()
    stream = process.stream(REQUEST, cancel)
    for _ in range(3):
        next(stream)
    cancel.set()
    assert last(stream).num_tokens == len(REQUEST.token_ids or ()) + 2


def test_refusals_cross_the_processes(process: Apart) -> None:
    with pytest.raises(RequestError, match="do not fit the model's context"):
        last(process.stream(RunRequest(token_ids=(0,), max_new_tokens=10**6)))


def test_engine_runs_the_requests_once_its_process_has_ended(engine: Engine, process: Apart) -> None:
    stream = process.stream(REQUEST)
    next(stream)
    process.end()
    assert apart.source(engine) is engine
    with pytest.raises(RuntimeError, match="has ended; run the text again"):
        last(stream)


# --- the process, as a thread of the test ----------------------------------------------------------------------------


def test_abandoned_run_ends_in_the_process() -> None:
    server, ours = Pipe()
    thread = threading.Thread(target=apart.serve, args=(FakeEngine(), ours))
    thread.start()
    server.send((RunRequest(prompt="a", max_new_tokens=8), 1))
    assert server.recv()[0] == apart.STEP
    server.close()
    thread.join(30)
    assert not thread.is_alive()


def test_process_reports_places_and_waits() -> None:
    server, ours = Pipe()
    places: list[int] = []
    ticket = PASSES.join("another")
    engine = FakeEngine()

    def in_turn(request: RunRequest, cancel: threading.Event | None = None, on_layer: object = None) -> Iterator:
        with PASSES.turn(cancel):
            pass
        return (yield from FakeEngine.stream(engine, request, cancel))

    engine.stream = in_turn  # type: ignore[method-assign]
    thread = threading.Thread(target=apart.serve, args=(engine, ours))
    thread.start()
    server.send((RunRequest(prompt="a", max_new_tokens=2), 1))
    assert server.poll(30)
    with PASSES.acting_for("me", places.append):
        steps = apart.steps_of(server, None)
        waited = PASSES.seconds_waited
        threading.Timer(0.1, PASSES.leave, (ticket,)).start()
        trace = last(steps)
        assert PASSES.seconds_waited - waited >= 0.2
    thread.join(30)
    assert isinstance(trace, Trace)
    assert places[0] == 1
    assert places[-1] == 0
