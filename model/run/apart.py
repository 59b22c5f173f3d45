"""A second process for the forward passes of a model, so that pages and passes do not wait for one interpreter.

The process loads the model once more. Each run has a connection of its own: the server sends the request, and after
each step whether the run goes on; the process sends places in its queue, steps, and the trace. The process has the
threads of the server, so a trace is the same to the bit. It ends when the server closes its standard input.

    python -m model.run.apart FOLDER DTYPE CONTEXT SPARED_CORES
"""

import contextlib
import logging
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Generator
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import IO

from model.run.protocol import StreamProtocol
from model.run.request import Capture, RequestError, RunRequest
from model.run.step import Progress, Step
from model.run.turns import PASSES, SECONDS_BETWEEN_CHECKS
from model.trace.trace import Trace

POSSIBLE = os.name == "posix" and (os.cpu_count() or 1) > 1  # a second process needs a second core
ROOT = Path(__file__).parent.parent.parent
PLACE, STEP, TRACE, ERROR = "place", "step", "trace", "error"  # kinds of messages of the process
_LOGGER = logging.getLogger(__name__)


class Apart:
    """The process of a model, as the server sees it."""

    def __init__(self, folder: Path, dtype: str, context: int, spared_cores: int) -> None:
        """Start the process; `ready` becomes true once it has loaded the model.

        Args:
            folder: folder of the model.
            dtype: a key of `model.run.engine.DTYPES`.
            context: largest number of tokens of a run.
            spared_cores: cores that the process leaves free, see `model.run.engine.spare_cores`.
        """
        command = [
            sys.executable,
            "-m",
            "model.run.apart",
            str(folder.resolve()),
            dtype,
            str(context),
            str(spared_cores),
        ]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
        )
        self._address: list[str] = []  # empty until the process is ready
        threading.Thread(target=_read, args=(self._process.stdout, self._address), daemon=True).start()
        self.end = weakref.finalize(self, _end, self._process)

    @property
    def ready(self) -> bool:
        """Whether the process has loaded the model and goes on."""
        return bool(self._address) and self._process.poll() is None

    def stream(
        self,
        request: RunRequest,
        cancel: threading.Event | None = None,
        on_layer: Callable[[Progress], None] = lambda progress: None,
    ) -> Generator[Step, None, Trace]:
        """Run a request as `Engine.stream` does; `on_layer` is never called.

        Raises:
            RuntimeError: the process has ended.
            RequestError, EditError, Stopped: as `Engine.stream`.
        """
        try:
            with Client(self._address[0], "AF_UNIX") as connection:
                connection.send((request, id(PASSES.visitor)))
                return (yield from steps_of(connection, cancel))
        except (EOFError, ConnectionError) as error:
            raise RuntimeError("the process that runs the model has ended; run the text again") from error


def steps_of(connection: Connection, cancel: threading.Event | None) -> Generator[Step, None, Trace]:
    """Yield the steps that arrive over a connection, and return the trace; see `Apart.stream`."""
    has_stopped, waited = False, 0.0
    while True:
        while not connection.poll(SECONDS_BETWEEN_CHECKS):
            if not has_stopped and cancel is not None and cancel.is_set():
                has_stopped = True
                connection.send(False)
        kind, value, total = connection.recv()
        if kind == PLACE:
            PASSES.show_place(value)
            continue
        PASSES.add_wait(total - waited)
        waited = total
        if kind == ERROR:
            raise value
        if kind == TRACE:
            return value
        yield value
        if not has_stopped:
            has_stopped = cancel is not None and cancel.is_set()
            connection.send(not has_stopped)


def _read(output: IO[str], address: list[str]) -> None:
    """Wait for the line that the process writes when it is ready: the address where it listens."""
    if line := output.readline().strip():
        address.append(line)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.communicate()


# --- the models that have a process ----------------------------------------------------------------------------------

PROCESSES: "weakref.WeakKeyDictionary[StreamProtocol, Apart]" = weakref.WeakKeyDictionary()


def begin(engine: StreamProtocol, most_bytes: int, spared_cores: int) -> None:
    """Start the process of an engine; `source` returns it once it is ready, as long as the engine is in use.

    Args:
        engine: an engine; nothing happens unless it is an `Engine` on the processor with its weights in memory.
        most_bytes: nothing happens if the weights have more bytes.
        spared_cores: see `Apart`.
    """
    from model.checkpoint.weights import weight_bytes
    from model.run.engine import Engine

    if not POSSIBLE or not isinstance(engine, Engine) or engine.disk is not None or engine.device.type != "cpu":
        return
    if weight_bytes(engine.config, engine.dtype) <= most_bytes:
        dtype = str(engine.dtype).removeprefix("torch.")
        PROCESSES[engine] = Apart(engine.folder, dtype, engine.context, spared_cores)


def source(engine: StreamProtocol) -> StreamProtocol:
    """Return what runs the requests of an engine: its process if it is ready, else the engine."""
    process = PROCESSES.get(engine)
    return process if process is not None and process.ready else engine


# --- in the process --------------------------------------------------------------------------------------------------


class _Answers(threading.Event):
    """The server's answers to the steps of a run; it is set once the server has stopped the run or hung up."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def is_set(self) -> bool:
        if not super().is_set() and self._connection.poll():
            self.take()
        return super().is_set()

    def take(self) -> None:
        """Wait for the answer to a step, unless the run was stopped."""
        try:
            goes_on = super().is_set() or self._connection.recv()
        except (EOFError, OSError):
            goes_on = False
        if not goes_on:
            self.set()


def serve(engine: StreamProtocol, connection: Connection) -> None:
    """Run the request of one connection; return when it has ended or the server has hung up."""
    with connection, contextlib.suppress(EOFError, OSError):
        request, visitor = connection.recv()
        answers = _Answers(connection)

        def send(kind: str, value: object) -> None:
            connection.send((kind, value, PASSES.seconds_waited))

        with PASSES.acting_for(visitor, lambda place: send(PLACE, place)):
            steps = engine.stream(request, answers)
            try:
                while True:
                    send(STEP, next(steps))
                    answers.take()
            except StopIteration as finished:
                send(TRACE, finished.value)
            except Exception as error:
                if not isinstance(error, ValueError | ConnectionError):
                    _LOGGER.exception("a run failed")
                send(ERROR, error)


def _exit_with_server() -> None:
    sys.stdin.read()
    os._exit(0)


def main(folder: str, dtype: str, context: str, spared_cores: str) -> None:
    """Load a model, write the address to standard output, and serve runs until standard input is closed."""
    import gc

    from model.run.engine import Engine, spare_cores

    threading.Thread(target=_exit_with_server, daemon=True).start()
    spare_cores(int(spared_cores))
    engine = Engine.load(folder, "cpu", dtype, int(context))
    with contextlib.suppress(RequestError):  # damaged weights; the visitor's run will show this error
        engine.run(
            RunRequest(token_ids=(0,) * 8, max_new_tokens=1, capture=Capture(frozenset({"router", "attention"})))
        )
    assert engine.description  # computes the checksum of the weights, once
    gc.collect()
    gc.freeze()
    with Listener(None, "AF_UNIX", backlog=128) as listener:
        sys.stdout.write(f"{listener.address}\n")
        sys.stdout.flush()
        while True:
            threading.Thread(target=serve, args=(engine, listener.accept()), daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
