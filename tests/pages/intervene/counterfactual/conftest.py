"""A real tiny model, a run of it, and the page on that run."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from streamlit.testing.v1 import AppTest

from model.checkpoint.weights import save_model
from model.run.engine import Engine
from model.run.request import Capture, RunRequest
from model.trace.trace import Trace
from model.train.data.bpe import train_vocabulary
from pages.common import models
from tests.models import random_model, tiny_config

Open = Callable[..., AppTest]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder: Path = tmp_path_factory.mktemp("models") / "tiny"
    save_model(random_model(tiny_config(num_layers=3, eos_id=None)), folder, torch.float32)
    train_vocabulary(["The wolf saw the moon.\n"] * 20, 320, show_progress=False).save(str(folder / "tokenizer.json"))
    return Engine.load(folder, device="cpu")


@pytest.fixture(scope="module")
def trace(real: Engine) -> Trace:
    return real.run(RunRequest(prompt="The wolf saw the moon.", max_new_tokens=8, temperature=0.7, capture=Capture()))


@pytest.fixture
def at(
    show_at: Open, recorded: Path, trace: Trace, real: Engine, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., AppTest]:
    """Opens the page at an address, with the real model's run on show."""
    monkeypatch.setattr(models, "load", lambda folder, job=None: real)
    monkeypatch.setattr(models, "available", lambda: {"tiny": real.folder})

    def opened(**address: str) -> AppTest:
        return show_at(trace, **address)

    return opened


def press(app: AppTest) -> AppTest:
    app.button(key="run-experiment").click().run()
    assert not app.exception
    return app
