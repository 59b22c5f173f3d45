"""The Architecture page on a tiny model whose trace is on show."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from model.trace.file import save
from model.trace.trace import Trace
from pages.common import models
from pages.common.menu import page_path
from tests.models import tiny_config
from tests.traces import random_trace

OpenApp = Callable[..., AppTest]

PAGE = page_path("architecture")

OF_TRACE = {"num_layers": 3, "num_experts": 8, "top_k": 2, "num_heads": 2}  # as random traces are


def write(folder: Path, **changes: object) -> dict[str, Any]:
    """A folder that holds nothing but a configuration."""
    published = tiny_config(**OF_TRACE | changes).to_json()
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(published))
    return published


@pytest.fixture
def show(open_app: OpenApp, recorded: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> OpenApp:
    """Opens the page on a tiny model whose trace is on show, or on another."""

    def shown(trace: Trace | None = None, changes: dict[str, object] | None = None, **address: str) -> AppTest:
        published = write(tmp_path / "tiny", **changes or {})
        monkeypatch.setattr(models, "available", lambda: {"tiny": tmp_path / "tiny"})
        own = random_trace(num_prompt=5, num_new=9)
        own = dataclasses.replace(own, model=dict(own.model) | {"name": "tiny", "config": published})
        save(trace or own, recorded / "story.safetensors")
        app = open_app(**address).switch_page(PAGE)
        for name, value in address.items():
            app.query_params[name] = value
        return app.run()

    return shown


def notes(figure: dict[str, Any]) -> list[str]:
    return [note["text"] for note in figure["layout"]["annotations"]]
