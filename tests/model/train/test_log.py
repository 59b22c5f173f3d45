"""The log keeps what the saved state contains and nothing else."""

from pathlib import Path

import pytest

from model.train.log import LOG, StepLog, read_log


def test_resuming_drops_steps_after_the_saved_one(tmp_path: Path) -> None:
    with StepLog(tmp_path) as log:
        for step in (1, 2, 3):
            log.write({"step": step})
    with (tmp_path / LOG).open("a") as file:
        file.write('{"step": 4, "los')
    with StepLog(tmp_path, steps_done=2) as log:
        log.write({"step": 3, "again": True})
    assert list(read_log(tmp_path / LOG)) == [{"step": 1}, {"step": 2}, {"step": 3, "again": True}]


def test_log_stays_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with StepLog(tmp_path) as log:
        for step in (1, 2, 3):
            log.write({"step": step})

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="No space left"):
        StepLog(tmp_path, steps_done=2)
    assert list(read_log(tmp_path / LOG)) == [{"step": 1}, {"step": 2}, {"step": 3}]
    assert [path.name for path in tmp_path.iterdir()] == [LOG]
