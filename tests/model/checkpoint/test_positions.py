"""A weight file that is truncated, deleted or replaced while it is loaded is an error and does not end the process."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.checkpoint.files import ModelFolder
from model.checkpoint.weights import save_model
from tests.models import random_model, tiny_config

# Truncates the file when half of the tensors are read; a bus error would end this process.
TRUNCATED = """
    import os, sys, torch
    from model.checkpoint import files, weights
    path, what = sys.argv[1], sys.argv[2]
    read, calls = files.ModelFolder.read_into, []
    def shrink(self, name, target):
        calls.append(name)
        if len(calls) == 20:
            if what == "truncate":
                os.truncate(path + "/model.safetensors", 1000)
            elif what == "delete":
                os.unlink(path + "/model.safetensors")
            else:
                open(path + "/new", "wb").write(b"other")
                os.replace(path + "/new", path + "/model.safetensors")
        read(self, name, target)
    files.ModelFolder.read_into = shrink
    try:
        model = weights.load_model(path, "cpu", torch.float32)
        print("loaded", float(model.norm.weight.detach().sum()))
    except files.CheckpointError as error:
        print(error)
"""


def load_while(what: str, folder: Path) -> str:
    command = [sys.executable, "-c", textwrap.dedent(TRUNCATED), str(folder), what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr  # minus 7 is a bus error
    return done.stdout.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(random_model(tiny_config()), tmp_path / "m", torch.float32)
    return tmp_path / "m"


def test_file_truncated_while_it_is_loaded_is_one_line(folder: Path) -> None:
    message = load_while("truncate", folder)
    assert "model.safetensors ended before tensor model.layers." in message
    assert message.endswith("did; it was truncated")


@pytest.mark.parametrize("what", ["delete", "replace"])
def test_file_deleted_or_replaced_while_it_is_loaded_is_still_read(folder: Path, what: str) -> None:
    expected = float(random_model(tiny_config()).norm.weight.detach().sum())
    assert load_while(what, folder) == f"loaded {expected}"


def test_every_dtype_and_shape_is_read_as_stored(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    stored = {
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "half": torch.randn(3, 5).half(),
        "brain": torch.randn(2, 3, 4).bfloat16(),
    }
    save_file(stored, tmp_path / "model.safetensors")
    with ModelFolder(tmp_path) as opened:
        for name, tensor in stored.items():
            assert torch.equal(opened.read_as(name, tensor.dtype), tensor)
            assert torch.equal(opened.read_as(name, torch.float32), tensor.float())
