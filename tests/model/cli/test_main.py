"""The command line: its help, and how an error ends a command."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.run.engine import Engine
from tests.model.cli.command_line import refused, run


def test_unknown_model_and_damaged_checkpoint_are_one_line(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    refused(
        run("trace", tmp_path / "nowhere", "--ids", "1", "--out", out),
        "nowhere is neither a folder nor an embedded model",
    )
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_bytes((folder / "config.json").read_bytes())
    (broken / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-5])
    refused(run("trace", broken, "--ids", "1", "--out", out), "truncated or damaged")
    refused(run("info", broken), "truncated or damaged")
    (broken / "model.safetensors").unlink()
    torch.save({}, broken / "pytorch_model.bin")
    refused(run("info", broken), "pickled")
    assert not out.exists()


def test_help_names_every_command_and_loads_no_torch() -> None:
    script = "import sys, model.__main__ as m; m.main(['--help'], standalone_mode=False); print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "False"
    for command in ("info", "tokenize", "trace", "train"):
        assert f"  {command} " in result.stdout


def test_help_of_each_command_loads_no_torch() -> None:
    script = (
        "import sys, model.__main__ as m\n"
        "for name in m.main.list_commands(None):\n"
        "    m.main([name, '--help'], standalone_mode=False)\n"
        "print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "False"
    assert result.stdout.count("Usage:") == 9


def test_a_process_ends_with_status_2_and_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "model", "info", str(tmp_path / "nowhere")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == ""


def test_a_mistake_of_ours_is_not_hidden(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(Engine, "run", broken)
    result = run("trace", folder, "--ids", "1", "--out", tmp_path / "run")
    assert isinstance(result.exception, ValueError)
