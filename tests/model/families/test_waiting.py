"""The next offload deletes the folders that killed processes left."""

import os
import tempfile
from pathlib import Path

import pytest

from model.families.waiting import make_folder


def test_folders_of_dead_processes_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mine = Path(make_folder())
    (mine / "weight.dat").touch()
    running, dead = str(os.getppid()), "999999998"  # above the largest process number of Linux
    others = tmp_path / mine.name.replace(str(os.getpid()), running)
    unowned = tmp_path / mine.name.replace(str(os.getpid()), dead)
    elsewhere = tmp_path / f"moe-loupe-another_machine-{dead}-abc"
    for folder in (others, unowned, elsewhere):
        folder.mkdir()
    (unowned / "weight.dat").touch()
    second = Path(make_folder())
    assert set(tmp_path.iterdir()) == {mine, others, elsewhere, second}
