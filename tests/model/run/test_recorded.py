import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from model.checkpoint.weights import save_model
from model.run import recorded
from model.run.engine import Engine
from model.run.request import RunRequest
from model.trace.file import load
from model.train.data.bpe import train_vocabulary
from tests.models import random_model, tiny_config


def test_prompts_are_short_and_distinct() -> None:
    prompts = json.loads((recorded.FOLDER / "prompts.json").read_text(encoding="utf-8"))
    assert list(prompts)[0] == "Story"
    assert len(set(prompts.values())) == len(prompts) == 12
    assert all(prompts.values())


def test_records_with_the_settings_of_the_first_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, folder = tmp_path / "tiny", tmp_path / "recorded"
    folder.mkdir()
    save_model(random_model(tiny_config()), model, torch.float32)
    train_vocabulary(["the sun and the wolf and the hill"], 300, show_progress=False).save(
        str(model / "tokenizer.json")
    )
    (folder / "prompts.json").write_text('{"Story": "the sun"}', encoding="utf-8")
    monkeypatch.setattr(recorded, "FOLDER", folder)
    (path,) = recorded.record(Engine.load(model), folder)
    trace = load(path)
    request = RunRequest.from_json(trace.request)
    assert (request.prompt, request.max_new_tokens, request.temperature, request.seed) == ("the sun", 48, 0.7, 0)
    assert trace.has("attention")
    assert trace.has("layer_input")


def test_without_a_model_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "embedded_models", list)
    result = CliRunner().invoke(recorded.main)
    assert result.exit_code == 2
    assert "name a model folder" in result.output
