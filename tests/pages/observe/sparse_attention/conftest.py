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
from pages.common import models
from pages.common.menu import page_path
from tests.models import random_model, tiny_config

PAGE = page_path("sparse_attention")


@pytest.fixture
def sparse_app(
    open_app: Callable[..., AppTest], recorded: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., AppTest]:
    """Opens the page on the trace of a model that keeps 6 keys."""
    folder = tmp_path / "sparse"
    config = tiny_config(model_type="deepseek_v32", index_heads=4, index_head_dim=12, index_topk=6)
    save_model(random_model(config), folder, torch.float32)
    engine = Engine.load(folder, "cpu")
    capture = Capture(frozenset({"router", "attention", "indexer", "inputs"}))
    save(engine.run(RunRequest(token_ids=tuple(range(2, 18)), capture=capture)), recorded / "story.safetensors")
    monkeypatch.setattr(models, "available", lambda: {"sparse": folder})
    monkeypatch.setattr(models, "load", lambda folder: engine)

    def opened(**chosen: object) -> AppTest:
        app = open_app().switch_page(PAGE).run()
        for name, value in chosen.items():
            app.session_state[name] = value
        return app.run() if chosen else app

    return opened
