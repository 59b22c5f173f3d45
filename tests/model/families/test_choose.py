"""The own network runs its model types, transformers all others; the operator can override."""

import json
from pathlib import Path

import pytest

from model.checkpoint.header import CheckpointError
from model.families.choose import OWN, TRANSFORMERS, engine_for
from model.run.request import RequestError


def folder_of(tmp_path: Path, config: object) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.parametrize(
    ("model_type", "engine"),
    [("deepseek_v3", OWN), ("kimi_k2", OWN), ("glm_moe_dsa", OWN), ("qwen3_moe", TRANSFORMERS), (None, TRANSFORMERS)],
)
def test_the_model_type_decides(tmp_path: Path, model_type: str | None, engine: str) -> None:
    assert engine_for(folder_of(tmp_path, {"model_type": model_type})) == engine


def test_the_operator_overrides(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"model_type": "deepseek_v3"})
    assert engine_for(folder, TRANSFORMERS) == TRANSFORMERS
    with pytest.raises(RequestError, match="no engine 'vllm'; choose from own, transformers"):
        engine_for(folder, "vllm")


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        engine_for(tmp_path)
    with pytest.raises(CheckpointError, match="JSON object"):
        engine_for(folder_of(tmp_path, [1]))
