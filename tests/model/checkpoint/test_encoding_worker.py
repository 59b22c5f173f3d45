"""Tokenizers that run away are stopped, in time and memory, and leave no process behind."""

import gc
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from model.checkpoint import encoding_worker
from model.checkpoint.encoding import Encoding, EncodingError
from model.checkpoint.encoding_worker import Worker
from tests.model.checkpoint.test_encoding import PUBLISHED, SLOW


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Processes in the order of their start."""
    processes: list[subprocess.Popen[bytes]] = []
    original: Any = subprocess.Popen

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        processes.append(original(*arguments, **options))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    return processes


def replacing(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"normalizer": {"type": "Sequence", "normalizers": list(steps)}}


BOMBS = {
    "replace": (sequence(*[replacing("a", "aa")] * 40), "a"),
    "prepend": (sequence(*[{"type": "Prepend", "prepend": "a" * 1000}, replacing("a", "a" * 1000)] * 4), "b"),
    "pattern": ({"pre_tokenizer": SLOW}, "x" * 400_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_stopped_and_the_next_text_works(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding_worker, "SECONDS", 3)
    changes, text = BOMBS[name]
    worker, began = Worker(PUBLISHED | changes), time.monotonic()
    with pytest.raises(EncodingError, match="its (normalizer|pre_tokenizer)"):
        worker.encode(text, False)
    assert time.monotonic() - began < 20
    if name == "pattern":
        assert worker.encode("the cat", False)


def test_ids_are_those_of_this_process() -> None:
    published = PUBLISHED | sequence(replacing("x", "the"))
    worker, here = Worker(published), Encoding(published)
    for text in ("xcat", "", "<｜User｜>", "été\n\u2028\ud7ff"):
        for parse_special in (False, True):
            assert worker.encode(text, parse_special) == here.encode(text, parse_special)


def test_an_unreadable_file_names_its_part() -> None:
    with pytest.raises(EncodingError, match="its normalizer cannot be read"):
        Worker(PUBLISHED | {"normalizer": {"type": "Strange"}})


def test_the_process_ends_with_the_tokenizer_and_one_that_was_ended_starts_again(
    started: list[subprocess.Popen[bytes]],
) -> None:
    worker = Worker(PUBLISHED | sequence(replacing("x", "the")))
    started[0].kill()
    with pytest.raises(EncodingError):
        worker.encode("a", False)
    assert worker.encode("a", False)
    assert started[1].poll() is None
    del worker
    gc.collect()
    assert [process.returncode for process in started] == [-9, -9]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc here")
def test_a_worker_loads_no_torch(started: list[subprocess.Popen[bytes]]) -> None:
    worker = Worker(PUBLISHED | sequence(replacing("x", "the")))
    assert worker.encode("a", False)
    assert "libtorch" not in Path(f"/proc/{started[0].pid}/maps").read_text()
