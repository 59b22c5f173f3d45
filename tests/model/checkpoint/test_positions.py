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

# Deletes, replaces or truncates each file when half of its tensors are read; a bus error would end this process.
CHANGED = """
    import os, sys, torch
    from model.checkpoint import files, weights
    read, calls = files.ModelFolder.read_into, []
    def changed(self, name, target):
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
    files.ModelFolder.read_into = changed
    for path in sys.argv[1:]:
        what = os.path.basename(path)
        calls.clear()
        try:
            model = weights.load_model(path, "cpu", torch.float32)
            print("loaded", float(model.norm.weight.detach().sum()), flush=True)
        except files.CheckpointError as error:
            print(error, flush=True)
"""


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what a process prints that loads three models, one while its file is deleted, replaced or truncated."""
    folders = [tmp_path_factory.mktemp("models") / what for what in ("delete", "replace", "truncate")]
    for folder in folders:
        save_model(random_model(tiny_config()), folder, torch.float32)
    command = [sys.executable, "-c", textwrap.dedent(CHANGED), *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr  # minus 7 is a bus error
    return dict(zip((folder.name for folder in folders), done.stdout.splitlines(), strict=True))


def test_file_truncated_while_it_is_loaded_is_one_line(messages: dict[str, str]) -> None:
    message = messages["truncate"]
    assert "model.safetensors ended before tensor model.layers." in message
    assert message.endswith("did; it was truncated")


@pytest.mark.parametrize("what", ["delete", "replace"])
def test_file_deleted_or_replaced_while_it_is_loaded_is_still_read(messages: dict[str, str], what: str) -> None:
    expected = float(random_model(tiny_config()).norm.weight.detach().sum())
    assert messages[what] == f"loaded {expected}"


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
