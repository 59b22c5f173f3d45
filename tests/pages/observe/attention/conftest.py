"""The page on a small model of its own, which computes heads that were not recorded."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from model.run.request import Capture, RunRequest
from pages.common import models
from tests.models import random_model, tiny_config

if TYPE_CHECKING:
    from model.run.engine import Engine


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> "Engine":
    from model.checkpoint.weights import save_model
    from model.run.engine import Engine

    folder = tmp_path_factory.mktemp("tiny")
    save_model(random_model(tiny_config(eos_id=None)), folder, torch.float32)
    return Engine.load(folder, device="cpu", context=600)


@pytest.fixture
def computed(real: "Engine", monkeypatch: pytest.MonkeyPatch, show: Callable[..., AppTest]) -> Callable[..., AppTest]:
    """Opens the page on a run of so many tokens that holds the layers' inputs only."""
    monkeypatch.setattr(models, "load", lambda folder, job=None: real)

    def shown(num_tokens: int, **chosen: object) -> AppTest:
        ids = tuple(np.random.default_rng(0).integers(1, 320, num_tokens).tolist())
        return show(real.run(RunRequest(token_ids=ids, capture=Capture(frozenset({"inputs"})))), **chosen)

    return shown
