"""Loading a model for all sessions."""

from pathlib import Path

import pytest

from model.run import engine
from model.run.request import RequestError, RunRequest
from pages.common import models


def test_a_model_of_damaged_weights_is_loaded_so_that_it_can_be_audited(monkeypatch: pytest.MonkeyPatch) -> None:
    class Damaged:
        disk, description = None, {"name": "damaged"}

        def run(self, request: RunRequest) -> None:
            raise RequestError("the model's logits are not finite")

    damaged = Damaged()
    monkeypatch.setattr(engine.Engine, "fitting", lambda folder: damaged)
    assert models.load(Path("damaged")) is damaged
