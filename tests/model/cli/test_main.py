"""The command line: its help, and how an error ends a command."""

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from model.cli.main import main
from model.run.engine import Engine
from tests.model.cli.command_line import refused, run


class Panic(BaseException):
    """Stands for pyo3_runtime.PanicException, which is no Exception either."""


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
    assert result.stdout.count("Usage:") == 13


def test_a_process_ends_with_status_2_and_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "model", "info", str(tmp_path / "nowhere")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == ""


@pytest.mark.parametrize("problem", [KeyError("bias"), RuntimeError("a\nb"), RecursionError("deep"), Panic("Rust")])
def test_an_unforeseen_fault_is_one_line_that_asks_for_a_report(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: BaseException
) -> None:
    def broken(*_: object) -> None:
        raise problem

    monkeypatch.setattr(Engine, "run", broken)
    arguments = ("trace", folder, "--ids", "1", "--out", tmp_path / "run")
    result = run(*arguments)
    assert result.exit_code == 3
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith(f"Error: a fault of this program ({type(problem).__name__}: ")
    assert "please report it" in line
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(type(problem)):
        CliRunner().invoke(main, ["--debug", *map(str, arguments)], catch_exceptions=False)


def test_ctrl_c_is_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "run", stopped)
    result = run("trace", folder, "--ids", "1", "--out", tmp_path / "run")
    assert result.exit_code == 130
    assert result.stderr == "Error: stopped by Ctrl-C; a file that was not finished was not written\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_line() -> None:
    info = [sys.executable, "-m", "model", "info", "mini-v3"]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(info, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (result.returncode, result.stderr) == (2, "Error: No space left on device\n")


def test_a_file_that_the_system_cuts_off_is_one_line(folder: Path, tmp_path: Path) -> None:
    out, limits = tmp_path / "run", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, limits[1]))
    try:
        result = run("trace", folder, "--ids", "1,2,3", "--out", out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    refused(result, f"{out}: File too large")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "model", "info", "mini-v3"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        error = process.stderr.read()
    assert error == b""
    assert process.returncode == 141


def test_no_pipe_or_device_is_replaced_by_an_output_file(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to(os.devnull)
    for name in ("pipe", "null"):
        result = run("trace", folder, "--ids", "1", "--out", tmp_path / name)
        refused(result, f"{tmp_path / name} is a pipe or a device; give the name of a file")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
