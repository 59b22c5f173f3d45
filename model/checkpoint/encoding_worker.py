"""Encodes text in a separate process, which is ended if it needs too much time or memory.

A tokenizer.json may rewrite each character into a million characters, or hold a pattern that backtracks for years. Only
files that could do this (see `is_harmless`) need a worker process. The process starts in half a second, and stays for
later texts.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.checkpoint.encoding import EncodingError

SECONDS = 10  # time limit for reading a file of up to 20,000 entries, or encoding a text of up to 100,000 characters
MOST_BYTES = 2 << 30  # limit of the address space of the process
_ROOT = Path(__file__).parents[2]


class Worker:
    """A process with the tokenizer of one tokenizer.json; a process that was ended is started again when needed."""

    def __init__(self, published: Mapping[str, Any]) -> None:
        """Start the process.

        Raises:
            EncodingError: the library cannot read the file, or needs more time or memory than the limits.
        """
        self._published = published
        self._lock = threading.Lock()
        self._processes: list[subprocess.Popen[bytes]] = []  # at most one
        self._ends = weakref.finalize(self, _end, self._processes)
        with self._lock:
            self._start()

    def encode(self, text: str, parse_special: bool) -> list[int]:
        """Return the token ids of a text; see `Encoding.encode`.

        Raises:
            EncodingError: the library fails, or needs more time or memory than the limits.
        """
        seconds = SECONDS + len(text) // 100_000
        with self._lock:
            if not self._processes:
                self._start()
            return self._ask(seconds, text=text, parse_special=parse_special)["ids"]

    def _start(self) -> None:
        path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        process = subprocess.Popen(
            [sys.executable, "-m", "model.checkpoint.encoding"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"},
        )  # fmt: skip
        self._processes.append(process)
        try:
            num_entries = len(self._published["model"].get("vocab", ()))
            self._ask(SECONDS + num_entries // 20_000, published=self._published, bytes=MOST_BYTES)
        except EncodingError:
            _end(self._processes)
            raise

    def _ask(self, seconds: int, **request: Any) -> dict[str, Any]:
        """Send a request to the process, and return its answer; end the process if it does not answer in time."""
        (process,) = self._processes
        assert process.stdin is not None
        assert process.stdout is not None
        timer, began = threading.Timer(seconds, process.kill), time.monotonic()
        timer.start()
        try:
            process.stdin.write(json.dumps(request | {"seconds": seconds}).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:  # it has ended
            line = b""
        finally:
            timer.cancel()
        if not line.endswith(b"\n"):
            _end(self._processes)
            limit = f"{seconds} s" if time.monotonic() - began >= seconds else f"{MOST_BYTES >> 30} GB of memory"
            raise EncodingError(
                f"it was stopped at {limit}; its normalizer or a pattern of its pre_tokenizer runs away"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise EncodingError(answer["error"])
        return answer


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    while processes:
        process = processes.pop()
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # unsent data for a process that has ended
                    pipe.close()
        process.wait()
