"""One start of Ray, whose workers die and raise; it is traced, has no network, and is killed at the end.

Where the system forbids an empty network or lacks strace, the sockets that /proc lists show the same.
"""

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.pools import ENDLESS, RAISES, processes_of
from tests.test_architecture import ROOT

pytest.importorskip("ray")
EMPTY_NETWORK = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
SECONDS = 180


class Run(NamedTuple):
    """What the driver printed, the traced system calls, the parts, the user's home, and the processes left."""

    told: dict[str, Any]
    calls: str | None
    parts: dict[str, str]
    home: list[str]
    left: list[int]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder, home = tmp_path_factory.mktemp("sweep"), tmp_path_factory.mktemp("home")
    (folder / "parts").mkdir()
    calls, told = folder / "calls.txt", {}
    with _driver(folder, home, calls) as driver:
        assert driver.stdout is not None
        ready, _, _ = select.select([driver.stdout], [], [], SECONDS)
        told = json.loads(driver.stdout.readline()) if ready else {}
        _wait(lambda: (folder / "parts" / f"part-{ENDLESS + 1:05d}.parquet").exists())
        os.kill(told["pid"], signal.SIGKILL)
        _wait(lambda: not processes_of(f"{folder}/ray"))
        left = processes_of(f"{folder}/ray")
    parts = {path.name: path.read_text() for path in (folder / "parts").glob("*.parquet")}
    traced = calls.read_text() if calls.exists() else None
    return Run(told, traced, parts, sorted(str(path) for path in home.rglob("*")), left)


@contextlib.contextmanager
def _driver(folder: Path, home: Path, calls: Path) -> Iterator[subprocess.Popen[str]]:
    alone = EMPTY_NETWORK if subprocess.run([*EMPTY_NETWORK, "true"], capture_output=True).returncode == 0 else []
    tracing = ["strace", "--seccomp-bpf", "-f", "-q", "-e", "trace=connect,bind,sendto", "-o", str(calls)]
    tracing = tracing if subprocess.run([*tracing, "true"], capture_output=True).returncode == 0 else []
    command = [*alone, *tracing, sys.executable, "-m", "tests.pools", str(folder)]
    environment = os.environ | {"HOME": str(home), "RAY_ADDRESS": "192.0.2.1:6379"}  # a cluster that nobody asked for
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as driver:
        try:
            yield driver
        finally:
            for process in processes_of(f"{folder}/ray"):
                os.kill(process, signal.SIGKILL)
            driver.kill()


def _wait(condition: Any) -> None:
    end = time.monotonic() + SECONDS
    while not condition() and time.monotonic() < end:
        time.sleep(0.2)


def test_dead_workers_are_replaced_and_the_other_shards_finish(run: Run) -> None:
    results = {result["shard"]: (kind, result) for kind, result in run.told["results"]}
    assert [results[shard][0] for shard in range(8)] == ["Summary"] * 5 + ["Failure"] * 2 + ["Summary"]
    assert results[5][1]["error"] == "3 workers died with this shard; is there memory for each of them?"
    assert results[RAISES][1]["error"] == "RuntimeError: a fault of the program"
    assert sorted(run.told["notices"]) == [
        f"a worker died with shard {shard}, which is tried again" for shard in (3, 5, 5)
    ]
    finished = {f"part-{shard:05d}.parquet" for shard in (0, 1, 2, 3, 4, 7, ENDLESS, ENDLESS + 1)}
    assert run.parts.keys() == finished
    assert set(run.parts.values()) == {"1 thread"}


def test_every_socket_is_on_the_loopback_interface(run: Run) -> None:
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert "0000000000000000FFFF00000100007F" in run.told["local"]
    assert set(run.told["local"]) <= loopback
    unconnected = {"00000000", "0" * 32}
    assert set(run.told["remote"]) <= loopback | unconnected


def test_no_other_address_is_asked_for(run: Run) -> None:
    """Neither 8.8.8.8 for the own address, nor 169.254.169.254 for the cloud, nor a server of names."""
    if run.calls is None:
        pytest.skip("strace is not installed or not allowed")
    found = re.findall(r'inet_(?:addr\(|pton\(AF_INET6, )"([^"]+)"', run.calls)
    assert len(found) > 20
    assert set(found) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_ray_lives_in_the_folder_of_the_sweep(run: Run) -> None:
    assert run.told["home"] == [".ray", "lock", "ray_bootstrap_config.yaml"]
    assert run.home == []


def test_a_killed_driver_leaves_no_process(run: Run) -> None:
    assert run.told["processes"] >= 6
    assert run.left == []
