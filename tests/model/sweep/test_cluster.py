"""The start of Ray, on a stand-in for Ray; `test_pool.py` starts the real one."""

import os
import signal
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from model.sweep import cluster
from model.sweep.cluster import ray_of
from model.sweep.settings import SweepError, Workers

SWITCHES = ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_USAGE_STATS_ENABLED", "HOME", "OMP_NUM_THREADS")


class FakeRay(types.ModuleType):
    """Changes what Ray changes, and keeps its arguments and the environment of its start."""

    def __init__(self, resources: dict[str, float], address: str = "127.0.0.1", fault: Exception | None = None) -> None:
        super().__init__("ray")
        self.resources, self.address, self.fault = resources, address, fault
        self.ended = 0

    def init(self, address: str, **options: Any) -> None:
        self.given, self.environment = {"address": address} | options, dict(os.environ)
        os.environ["PYTHONBREAKPOINT"] = "ray"
        sys.excepthook = lambda *_: None
        signal.signal(signal.SIGTERM, lambda *_: None)
        if self.fault:
            raise self.fault

    def nodes(self) -> list[dict[str, str]]:
        return [{"NodeManagerAddress": self.address}]

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def shutdown(self) -> None:
        self.ended += 1


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """What the user set stays set, and nothing that Ray sets stays, whatever happens in between."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    monkeypatch.setattr(cluster.tempfile, "gettempdir", lambda: "/tmp")
    before = state()
    yield
    assert state() == before


def state() -> list[Any]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return [environment, signal.getsignal(signal.SIGTERM), sys.excepthook]


def begun(monkeypatch: pytest.MonkeyPatch, ray: FakeRay, folder: Path, workers: Workers) -> FakeRay:
    monkeypatch.setitem(sys.modules, "ray", ray)
    with ray_of(folder, workers) as given:
        assert given is ray
        assert ray.ended == 0
    assert ray.ended == 1
    return ray


def test_a_local_ray_is_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ray = begun(monkeypatch, FakeRay({"CPU": 3.0}), tmp_path, Workers(3))
    home = str(tmp_path / "ray")
    assert [ray.environment[name] for name in SWITCHES] == ["0", "0", home, "1"]
    assert ray.given["address"] == "local"  # None would join a cluster that RAY_ADDRESS names
    assert (ray.given["num_cpus"], ray.given["num_gpus"]) == (3, 0)
    sockets = Path(ray.given["_temp_dir"])
    assert len(str(sockets)) < 40
    assert list(tmp_path.iterdir()) == []  # its home and the sockets are gone
    assert not sockets.parent.exists()


def test_what_a_killed_sweep_left_is_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ray = begun(monkeypatch, FakeRay({"CPU": 1.0}), tmp_path, Workers(1))
    left = Path(ray.given["_temp_dir"]).parent
    (left / "ray" / "session").mkdir(parents=True)
    (tmp_path / "ray").mkdir()
    begun(monkeypatch, FakeRay({"CPU": 1.0}), tmp_path, Workers(1))
    assert not left.exists()


def test_a_folder_of_somebody_else_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    path = Path(begun(monkeypatch, FakeRay({"CPU": 1.0}), tmp_path, Workers(1)).given["_temp_dir"]).parent
    path.symlink_to(tmp_path / "theirs")
    with pytest.raises(SweepError, match="somebody else"):
        begun(monkeypatch, FakeRay({"CPU": 1.0}), tmp_path, Workers(1))
    path.unlink()


def test_a_second_sweep_of_the_same_folder_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", FakeRay({"CPU": 1.0}))
    with ray_of(tmp_path, Workers(1)):
        with pytest.raises(SweepError, match="another sweep with workers runs in"), ray_of(tmp_path, Workers(1)):
            pass
        assert (tmp_path / "ray" / "ray_bootstrap_config.yaml").exists()  # the first one's home stays


def test_a_cluster_keeps_its_home_and_its_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ray = begun(monkeypatch, FakeRay({"CPU": 8.0, "GPU": 2.0}, "10.0.0.1"), tmp_path, Workers(4, 0.5, "10.0.0.1:6379"))
    assert ray.given == {"address": "10.0.0.1:6379", "log_to_driver": False, "logging_level": "ERROR"}
    assert ray.environment["HOME"] == os.environ["HOME"]  # it has the token of the cluster
    assert ray.environment["RAY_USAGE_STATS_ENABLED"] == "0"
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in ray.environment


def refusal(monkeypatch: pytest.MonkeyPatch, ray: FakeRay | None, folder: Path, workers: Workers) -> str:
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(SweepError) as caught, ray_of(folder, workers):
        pass
    assert "\n" not in str(caught.value)
    assert ray is None or ray.ended == 1
    assert list(folder.iterdir()) == []
    return str(caught.value)


@pytest.mark.parametrize(
    ("ray", "workers", "message"),
    [
        (None, Workers(2), "requirements-sweep.txt"),
        (FakeRay({"CPU": 2.0}, "10.0.0.7"), Workers(2), "Ray listens on 10.0.0.7"),
        (FakeRay({"CPU": 2.0}), Workers(2, 1.0), "2 workers need 2 GPUs, this machine has 0"),
        (FakeRay({"CPU": 2.0}), Workers(4, 0.0, "head:6379"), "4 workers need 4 CPUs, the cluster has 2"),
        (FakeRay({}, fault=RuntimeError("no\nport")), Workers(2), "Ray does not start (no port)"),
        (FakeRay({}, fault=ConnectionError()), Workers(2, 0.0, "head:1"), "at 'head:1' (ConnectionError)"),
        (FakeRay({}), Workers(2, 0.0, "ray://head:1"), "HOST:PORT of the head node, not 'ray://head:1'"),
    ],
)
def test_refusals(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ray: FakeRay | None, workers: Workers, message: str
) -> None:
    assert message in refusal(monkeypatch, ray, tmp_path, workers)
