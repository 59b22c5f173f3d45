"""The model's card: the same numbers as the command line says, without waiting for torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.checkpoint.sizes import model_sizes
from model.checkpoint.weights import save_model
from model.network.config import ModelConfig
from pages.common import models, sidebar
from tests.models import random_model, tiny_config
from tests.parameters import count_parameters

EMBEDDED = [path.parent for path in sorted(models.PRESETS.glob("*/config.json"))]


def sizes(folder: Path) -> list[str]:
    return sidebar.sizes.__wrapped__(folder)  # as it is, without the cache


def expected(config: ModelConfig) -> list[str]:
    total, active = count_parameters(config)
    cached = model_sizes(config).cache["bfloat16"]["MLA"]
    return [
        f"{total / 1e6:,.1f} M parameters, {active / 1e6:,.1f} M active",
        f"{cached:,} bytes of cache per token (bfloat16)",
    ]


@pytest.mark.parametrize("folder", EMBEDDED, ids=lambda folder: folder.name)
def test_numbers_are_those_of_the_command_line(folder: Path) -> None:
    config = ModelConfig.from_json(json.loads((folder / "config.json").read_text()))
    assert sizes(folder) == expected(config)


def test_block_scales_are_not_counted(tmp_path: Path) -> None:
    config = tiny_config(hidden_size=1024, expert_width=512)
    save_model(random_model(config), tmp_path / "tiny", torch.bfloat16, fp8_scales=torch.float32)
    assert sizes(tmp_path / "tiny") == expected(config)


def test_configuration_without_weights_still_says_its_cache(tmp_path: Path) -> None:
    config = tiny_config()
    (tmp_path / "config.json").write_text(json.dumps(config.to_json()))
    assert sizes(tmp_path) == expected(config)[1:]


def test_folder_of_another_kind_says_nothing(tmp_path: Path) -> None:
    assert sizes(tmp_path) == []
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert sizes(tmp_path) == []


def test_first_screen_need_not_wait_for_torch() -> None:
    script = (
        "import sys; from pathlib import Path; from pages.common import sidebar;"
        "sidebar.sizes.__wrapped__(Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(EMBEDDED[0])]
    assert subprocess.run(command, cwd=models.PRESETS.parents[1], check=False).returncode == 0
