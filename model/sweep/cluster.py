"""Start Ray on this machine so that it speaks to this machine only, or connect to the operator's cluster.

Without these switches Ray 2.60 listens on every interface, asks 8.8.8.8 for its own address, reports its usage, and
asks 169.254.169.254 which cloud it runs in, even with reports switched off.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from model.sweep.settings import SweepError, Workers

INSTALL = "several workers need Ray: pip install -r requirements-sweep.txt, or leave out --workers"
_OBJECTS = 100 << 20  # bytes of the object store; only shard numbers and summaries travel
_SILENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",  # print none of its own lines about workers that died
}
# 0: listen on the loopback interface only. A worker has one CPU, and more threads would only wait for each other.
_LOCAL = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "OMP_NUM_THREADS": "1"}
# Give up on an address where no cluster answers after about 40 s instead of several minutes.
_IMPATIENT = {"RAY_py_gcs_connect_timeout_s": "10", "RAY_NUM_REDIS_GET_RETRIES": "2"}
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
_BOOTSTRAP = "ray_bootstrap_config.yaml"  # if it is there, even empty, Ray takes the cloud's name from it


@contextlib.contextmanager
def ray_of(folder: Path, workers: Workers) -> Iterator[ModuleType]:
    """Yield the module `ray` with a connection; end it, and put back the environment and the handlers of signals.

    Args:
        folder: the folder of the sweep; a local Ray has its home in it.
        workers: what they need.

    Raises:
        SweepError: Ray is not installed, does not start, or has too few CPUs or GPUs.
    """
    with _put_back(), contextlib.ExitStack() as stack:
        os.environ.update(_SILENT)
        if workers.address is None:
            temporary = stack.enter_context(_private(folder))
            os.environ.update(_LOCAL)
            ray = _imported(stack)
            _start(ray, temporary, workers)
        else:
            os.environ.update(_IMPATIENT)
            ray = _imported(stack)
            _connect(ray, workers.address)
        _check_resources(ray.cluster_resources(), workers)
        yield ray


@contextlib.contextmanager
def _private(folder: Path) -> Iterator[Path]:
    """Let Ray's home be in the folder of the sweep; yield a folder for its sockets; remove both at the end."""
    home = folder.absolute() / "ray"
    home.mkdir(mode=0o700, exist_ok=True)
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system opens it when this process ends, however
        except BlockingIOError:
            raise SweepError(f"another sweep with workers runs in {folder}; wait for it, or stop it") from None
        try:
            temporary = _temporary(folder)
            (home / _BOOTSTRAP).touch()
            os.environ["HOME"] = str(home)
            yield temporary
        finally:
            shutil.rmtree(home, ignore_errors=True)
            shutil.rmtree(_socket_folder(folder), ignore_errors=True)


def _imported(stack: contextlib.ExitStack) -> ModuleType:
    """Return Ray, which reads its switches when it is imported, and let it end with the stack."""
    try:
        import ray
    except ImportError:
        raise SweepError(INSTALL) from None
    stack.callback(ray.shutdown)
    return ray


def _temporary(folder: Path) -> Path:
    """Make the folder for Ray's sockets, and return it; remove what a killed sweep left in it."""
    path = _socket_folder(folder)
    shutil.rmtree(path, ignore_errors=True)
    try:
        path.mkdir(mode=0o700, exist_ok=True)  # Ray's processes may still be ending in it
    except OSError as error:
        raise SweepError(f"Ray needs the folder {path}, which cannot be made: {error.strerror}") from None
    if path.is_symlink() or path.stat().st_uid != os.getuid():
        raise SweepError(f"Ray needs the folder {path}, which belongs to somebody else")
    return path


def _socket_folder(folder: Path) -> Path:
    """Return the path of the sockets, which is outside the sweep's folder: a socket's path has at most 107 bytes."""
    name = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:12]
    parent = tempfile.gettempdir()
    return Path(parent if len(parent) <= 30 else "/tmp") / f"sweep-{name}"


def _start(ray: ModuleType, temporary: Path, workers: Workers) -> None:
    """Start Ray; "local" keeps it from the cluster that the variable RAY_ADDRESS may name."""
    try:
        ray.init(
            "local",
            num_cpus=workers.number,
            num_gpus=None if workers.gpus_each else 0,
            object_store_memory=_OBJECTS,
            include_dashboard=False,
            _temp_dir=str(temporary / "ray"),  # which Ray opens to every user, but not its parent
            **_QUIET,
        )
    except Exception as error:  # noqa: BLE001 - Ray raises what its parts raise
        raise SweepError(f"Ray does not start ({_line(error)}); leave out --workers to sweep without it") from None
    if (address := ray.nodes()[0]["NodeManagerAddress"]) != "127.0.0.1":
        raise SweepError(f"Ray listens on {address}, because it was imported before the sweep; nothing was sent")


def _connect(ray: ModuleType, address: str) -> None:
    if "://" in address:
        raise SweepError(f"--ray-address takes HOST:PORT of the head node, not {address!r}")
    try:
        ray.init(address, **_QUIET)
    except Exception as error:  # noqa: BLE001
        raise SweepError(f"no Ray cluster accepts this machine at {address!r} ({_line(error)})") from None


def _check_resources(resources: dict[str, float], workers: Workers) -> None:
    """Refuse more workers than can ever run at a time: Ray would let them wait without a word."""
    for name, each in (("CPU", 1), ("GPU", workers.gpus_each or 0)):
        needed, there = each * workers.number, resources.get(name, 0)
        if needed > there:
            where = "this machine" if workers.address is None else "the cluster"
            raise SweepError(f"{workers.number} workers need {needed:g} {name}s, {where} has {there:g}; ask for fewer")


@contextlib.contextmanager
def _put_back() -> Iterator[None]:
    """Restore the environment, the handler of SIGTERM and the hook for errors, all of which Ray changes."""
    before, hook, sigterm = dict(os.environ), sys.excepthook, signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
        sys.excepthook = hook
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, sigterm)


def _line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
