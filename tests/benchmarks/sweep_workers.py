"""Stop sweeps in every way, and compare their tables with an undisturbed sweep's, byte for byte.

A plain loop, two workers, a killed worker, a killed command, Ctrl-C, a full disk, and two Ray nodes. Prints the CPU
seconds of all processes of each, and the processes that are left.

    python -m tests.benchmarks.sweep_workers [PATHS...] [--model mini-v3] [--shard-tokens 16384]
"""

import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click

from tests.pools import processes_of
from tests.test_architecture import ROOT

SUBREAPER = 36  # of Linux: processes whose parents end become children of this one, so their CPU time is counted
IN_A_FULL_DISK = """
mount -t tmpfs -o size={kilobytes}k tmpfs {disk} || exit 9
{command}; echo first $?; df --output=pcent {disk} | tail -1
mount -o remount,size=1g {disk}
{command}; echo then $?
cp -r {disk}/out {kept}
"""


class Bench:
    """Runs sweeps of one corpus, each in a folder of its own."""

    def __init__(self, folder: Path, model: str, paths: tuple[str, ...], shard_tokens: int) -> None:
        self.folder = folder
        self.base = [sys.executable, "-m", "model", "sweep", model, "--shard-tokens", str(shard_tokens)]
        self.base += ["--keep", "examples", *(option for path in paths for option in ("--texts", path))]

    def command(self, out: Path, *options: str) -> list[str]:
        return [*self.base, "--out", str(out), *options]

    def run(self, name: str, *options: str, then: Callable[[subprocess.Popen[bytes], Path], None] | None = None) -> int:
        """Run a sweep, let `then` disturb it after its second shard, and print what it cost and left."""
        out, began, before = self.folder / name, time.monotonic(), cpu_seconds()
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        log = (self.folder / f"{name}.log").open("ab")
        process = subprocess.Popen(
            self.command(out, *options), cwd=ROOT, stdout=log, stderr=log, env=environment, start_new_session=True
        )
        if then is not None:
            while process.poll() is None and len(list((out / "parts").glob("part-*.parquet"))) < 2:
                time.sleep(0.1)
            then(process, out)
        while process.poll() is None:
            time.sleep(0.2)
        ended = time.monotonic()
        while (left := processes_of(f"{out}/ray")) and time.monotonic() < ended + 60:
            time.sleep(0.2)
            reap()
        lasted = time.monotonic() - ended
        while reap() and time.monotonic() < ended + 60:
            time.sleep(0.2)
        parts = len(list((out / "parts").glob("part-*.parquet")))
        print(
            f"{name}: status {process.returncode}, {parts} parts, {cpu_seconds() - before:.1f} CPU s, "
            f"{ended - began:.0f} s; {len(left)} processes left after {lasted:.1f} s",
            flush=True,
        )
        return process.returncode

    def compare(self, name: str) -> None:
        """Print which tables differ from the plain sweep's."""
        plain, other = self.folder / "plain", self.folder / name
        tables = sorted(path.name for path in plain.glob("*.parquet"))
        differ = [
            table
            for table in tables
            if not (other / table).is_file() or (plain / table).read_bytes() != (other / table).read_bytes()
        ]
        extra = sorted({path.name for path in other.iterdir()} - {path.name for path in plain.iterdir()})
        print(f"    {len(tables)} tables; differ: {differ or 'none'}; other files: {extra or 'none'}", flush=True)


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def reap() -> bool:
    """Take the exit status of every ended process that was left to this one; return whether others still run."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def kill_a_worker(process: subprocess.Popen[bytes], out: Path) -> None:
    """Kill a worker in the middle of a shard."""
    for pid in processes_of(f"{out}/ray"):
        if b"_Worker.route" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
            return
    raise SystemExit("no worker found")


def kill_the_command(process: subprocess.Popen[bytes], out: Path) -> None:
    process.kill()


def press_ctrl_c(process: subprocess.Popen[bytes], out: Path) -> None:
    """Interrupt the process group, as a terminal does."""
    os.killpg(process.pid, signal.SIGINT)


def full_disk(bench: Bench) -> None:
    """Sweep onto a small disk of its own until it is full, then again after it grew."""
    disk, kept = bench.folder / "disk", bench.folder / "full"
    disk.mkdir()
    size = sum(path.stat().st_size for path in (bench.folder / "plain" / "parts").iterdir())
    command = " ".join(bench.command(disk / "out", "--workers", "2"))
    script = IN_A_FULL_DISK.format(kilobytes=size // 2000, disk=disk, command=command, kept=kept)
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True)
    print("full disk:", " | ".join(line for line in (done.stderr + done.stdout).splitlines() if "tokens," not in line))


def two_nodes(bench: Bench) -> None:
    """Sweep on a cluster of two Ray nodes with a CPU each."""
    home = bench.folder / "home"
    home.mkdir()
    (home / "ray_bootstrap_config.yaml").touch()
    os.environ |= {"HOME": str(home), "RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    os.environ["RAY_AUTH_MODE"] = "token"
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("0123456789abcdef" * 4)
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100 << 20, "num_gpus": 0}
    )
    cluster.add_node(num_cpus=1, num_gpus=0, object_store_memory=100 << 20)
    bench.run("nodes", "--workers", "2", "--ray-address", cluster.address)
    cluster.shutdown()


@click.command()
@click.argument("paths", nargs=-1)
@click.option("--model", default="mini-v3")
@click.option("--shard-tokens", default=16_384)
@click.option("--only", multiple=True)
def main(paths: tuple[str, ...], model: str, shard_tokens: int, only: tuple[str, ...]) -> None:
    """Run all, print a line for each."""
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    folder = Path(tempfile.mkdtemp(prefix="sweeps-"))
    bench = Bench(folder, model, paths or (str(ROOT / "docs"), str(ROOT / "model" / "run")), shard_tokens)
    bench.run("plain")
    tokens = sum(shard["tokens"] for shard in json.loads((folder / "plain" / "manifest.json").read_text())["shards"])
    print(f"    {tokens:,} tokens")
    two = ("--workers", "2")
    cases = {
        "workers": lambda: bench.run("workers", *two),
        "killed-worker": lambda: bench.run("killed-worker", *two, then=kill_a_worker),
        "killed": lambda: [bench.run("killed", *two, then=kill_the_command), bench.run("killed", *two)],
        "ctrl-c": lambda: [bench.run("ctrl-c", *two, then=press_ctrl_c), bench.run("ctrl-c")],
        "full": lambda: full_disk(bench),
        "nodes": lambda: two_nodes(bench),
    }
    for name, case in cases.items():
        if not only or name in only:
            case()
            bench.compare(name)
    for log in folder.glob("*.log"):
        lines = [line for line in log.read_text().splitlines() if "tokens," not in line]
        print(f"{log.stem}:", *lines[-4:], sep="\n    ")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
