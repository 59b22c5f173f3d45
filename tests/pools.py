"""A sweep without a model, whose workers die and raise as asked; and what processes and sockets it uses."""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from model.sweep.pool import in_a_pool
from model.sweep.settings import Settings, Summary, Workers

ONCE, ALWAYS, RAISES, ENDLESS = 3, 5, 6, 100  # shards


class StandIn:
    """Writes a part per shard; shard `ONCE` kills its first worker, `ALWAYS` each."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def route(self, shard: int) -> Summary:
        part = self.settings.part(shard)
        if shard == ALWAYS or (shard == ONCE and not part.with_suffix(".killed").exists()):
            part.with_suffix(".killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if shard == RAISES:
            raise RuntimeError("a fault of the\nprogram")
        part.write_text(f"{os.environ['OMP_NUM_THREADS']} thread")
        if shard >= ENDLESS:
            time.sleep(600)
        return Summary(shard, 1, 10, 0, 0, 0.0)


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have started."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = [pid]
    for process in found:
        found += children.get(process, [])
    return found[1:]


def processes_of(home: str) -> list[int]:
    """The processes whose variable HOME names this folder."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"HOME={home}".encode() in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
    return found


def addresses(pids: list[int]) -> tuple[set[str], set[str]]:
    """The local and the remote addresses of the TCP and UDP sockets of these processes, as /proc spells them."""
    inodes = set()
    for link in (link for pid in pids for link in Path(f"/proc/{pid}/fd").glob("*")):
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(link))
    rows = [
        line.split()
        for name in ("tcp", "tcp6", "udp", "udp6")
        for line in Path(f"/proc/self/net/{name}").read_text().splitlines()[1:]
    ]
    ours = [row for row in rows if f"socket:[{row[9]}]" in inodes]
    return {row[1].split(":")[0] for row in ours}, {row[2].split(":")[0] for row in ours}


def main(folder: str) -> None:
    """Print what became of eight shards as JSON, then route two that do not end."""
    notices: list[str] = []
    told: dict[str, Any] = {"pid": os.getpid(), "results": [], "notices": notices}
    shards = [*range(8), ENDLESS, ENDLESS + 1]
    for result in in_a_pool(Workers(2), StandIn, notices.append)(Settings("none", (), folder), shards):
        told["results"].append((type(result).__name__, vars(result)))
        if len(told["results"]) == 8:
            told["home"] = sorted(path.name for path in (Path(folder) / "ray").iterdir())
            told["processes"] = len(processes_of(f"{folder}/ray"))
            told["local"], told["remote"] = map(sorted, addresses([os.getpid(), *descendants(os.getpid())]))
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
