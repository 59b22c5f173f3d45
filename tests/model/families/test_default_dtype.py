"""A model is built in its dtype, and no other thread sees another default dtype meanwhile."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from transformers import modeling_utils

from model.families.folder import open_folder
from tests.families import saved

CPU = torch.device("cpu")


@contextmanager
def original(dtype: torch.dtype, _model_class: str | None = None) -> Iterator[None]:
    """What transformers does itself."""
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def dtypes(folder: Path) -> dict[str, torch.dtype]:
    model = open_folder(folder, CPU, torch.bfloat16).model
    return {name: tensor.dtype for name, tensor in (*model.named_parameters(), *model.named_buffers())}


# Jamba and MiniMax compute tensors from whole numbers; Gemma 4 and Inkling 2 keep some in float32.
@pytest.mark.parametrize("family", ["jamba", "minimax", "gemma4_text", "inkling2_text", "qwen3_moe"])
def test_dtypes_are_those_of_transformers(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = dtypes(saved(family))
    monkeypatch.setattr(modeling_utils, "local_torch_dtype", original)
    assert ours == dtypes(saved(family))
    assert torch.bfloat16 in ours.values()


def test_other_threads_keep_their_default() -> None:
    visited, done = set(), threading.Event()

    def watch() -> None:
        while not done.is_set():
            visited.add(torch.zeros(1).dtype)

    thread = threading.Thread(target=watch)
    thread.start()
    open_folder(saved("qwen3_moe"), CPU, torch.bfloat16)
    done.set()
    thread.join()
    assert visited == {torch.float32}
