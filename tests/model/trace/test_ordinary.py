"""Only ordinary files of bounded size are read; nothing blocks, and no descriptor is left open."""

import os
from pathlib import Path

import pytest

from model.trace.ordinary import read_ordinary


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_ordinary(path, 5) == b"12345"
    with pytest.raises(OSError, match="larger than the 4 bytes that are read"):
        read_ordinary(path, 4)
    with path.open("r+b") as file:
        file.truncate(3_000_000)
    with pytest.raises(OSError, match="larger than the 2 MB that are read"):
        read_ordinary(str(path), 2_000_000)


def test_pipes_devices_and_folders_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    before = open_descriptors()
    for name in ("pipe", "zero", "."):
        with pytest.raises(OSError, match="it is not an ordinary file") as caught:
            read_ordinary(tmp_path / name, 100)
        assert caught.value.filename == str(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_ordinary(tmp_path / "missing", 100)
    assert open_descriptors() == before
