"""Models in small for the command line."""

from pathlib import Path

import pytest
import torch

from model.checkpoint.weights import save_model
from model.train.data.bpe import train_vocabulary
from tests.model.cli.command_line import VOCABULARY
from tests.models import random_model, tiny_config

TEXT = "The wolf saw the moon.\n" * 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    save_model(random_model(tiny_config()), path, torch.float32)
    train_vocabulary([TEXT], VOCABULARY, show_progress=False).save(str(path / "tokenizer.json"))
    return path


@pytest.fixture(scope="module")
def wordless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "wordless"
    save_model(random_model(tiny_config()), path, torch.float32)
    return path
