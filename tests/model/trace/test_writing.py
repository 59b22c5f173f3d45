"""Files are written completely or not at all, on a full disk too."""

import json
import math
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.trace.writing import replacing, strict


@pytest.fixture
def hardly_any_room() -> Iterator[None]:
    """No file of this process can grow over a kilobyte."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_file_is_replaced_when_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    with replacing(path) as temporary:
        temporary.write_text("after")
        assert path.read_text() == "before"
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("file", "after")]


@pytest.mark.usefixtures("hardly_any_room")
def test_what_does_not_fit_leaves_the_last_file_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(OSError, match="File too large") as caught, replacing(path) as temporary:
        save_file({"a": torch.zeros(1000)}, temporary)
    assert caught.value.filename == str(path)
    with pytest.raises(OSError, match="File too large"), replacing(path) as temporary:
        temporary.write_text("x" * 2000)
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("file", "before")]


def test_strict_json_has_no_nan() -> None:
    value = {"a": (math.nan, 1, True, None), 2: {"b": [-math.inf]}}
    assert json.loads(json.dumps(strict(value), allow_nan=False)) == {"a": ["nan", 1, True, None], "2": {"b": ["-inf"]}}
