"""The page on a small model whose indexer keeps 6 keys."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from streamlit.testing.v1 import AppTest

from model.checkpoint.weights import save_model
from model.run.engine import Engine
from model.run.request import Capture, RunRequest
from model.trace.file import save
from model.trace.trace import Trace
from model.train.data.bpe import train_vocabulary
from pages.common import models
from pages.common.menu import page_path
from tests.models import random_model, tiny_config

PAGE = page_path("sparse_attention")


@pytest.fixture
def sparse_engine(tmp_path: Path) -> Engine:
    """A model that keeps 6 keys."""
    folder = tmp_path / "sparse"
    config = tiny_config(model_type="deepseek_v32", index_heads=4, index_head_dim=12, index_topk=6, eos_id=None)
    save_model(random_model(config), folder, torch.float32)
    train_vocabulary(["The wolf saw the moon.\n"] * 20, 320, show_progress=False).save(str(folder / "tokenizer.json"))
    return Engine.load(folder, "cpu")


@pytest.fixture
def sparse_trace(sparse_engine: Engine) -> Trace:
    """A run of it over 16 tokens."""
    capture = Capture(frozenset({"router", "attention", "indexer", "inputs"}))
    return sparse_engine.run(RunRequest(token_ids=tuple(range(2, 18)), capture=capture))


@pytest.fixture
def sparse_app(
    open_app: Callable[..., AppTest],
    recorded: Path,
    monkeypatch: pytest.MonkeyPatch,
    sparse_engine: Engine,
    sparse_trace: Trace,
) -> Callable[..., AppTest]:
    """Opens the page on the trace of a model that keeps 6 keys."""
    save(sparse_trace, recorded / "story.safetensors")
    monkeypatch.setattr(models, "available", lambda: {"sparse": sparse_engine.folder})
    monkeypatch.setattr(models, "load", lambda folder, job=None: sparse_engine)

    def opened(**chosen: object) -> AppTest:
        app = open_app().switch_page(PAGE).run()
        for name, value in chosen.items():
            app.session_state[name] = value
        return app.run() if chosen else app

    return opened
